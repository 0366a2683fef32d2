"""A batcher: many callers' items become few calls of one worker thread. It knows no model and no text.

One task owns the queue. It cuts a batch as soon as the worker is free, so batches form while the worker is busy and
no timer is needed. A caller first reserves room, before any expensive work, then submits its items:

    with batcher.reserve(items=1, tokens=bound) as slot:
        items = ...                            # expensive
        done = await slot.answer(items)        # one Done for each item, in order

Every accepted item is answered exactly once: with its answer, with its own error, or through the exception of
`answer`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from guard.engines.base import padded_batches
from guard.errors import Closed, EngineError, Overloaded, TooLarge

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_LOOKAHEAD = 4  # batches' worth of waiting items to choose from, so that the oldest gets batch-mates of its length
_CLOSED = "the service is shutting down or has stopped; send the request to another server"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The queue's bounds count all that is accepted and not yet answered; a batch's tokens count its padding."""

    queue_items: int = 4096
    queue_tokens: int = 1 << 20
    batch_items: int = 64
    batch_tokens: int = 2048


@dataclass(frozen=True, slots=True)
class Done(Generic[Answer]):
    """The outcome of one item: its answer or error, and its timings."""

    answer: Answer | Exception
    queue_ms: float
    work_ms: float  # of its whole batch


@dataclass(slots=True, eq=False)
class _Job(Generic[Answer]):
    """The items that one caller waits for together."""

    count: int
    deadline: float
    submitted: float
    finished: asyncio.Future[None]
    done: dict[int, Done[Answer]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Answer]):
    job: _Job[Answer]
    index: int
    item: Item
    tokens: int


@dataclass(slots=True, eq=False)
class Slot(Generic[Item, Answer]):
    """Room in the queue, held until the `with` block of `reserve` ends."""

    batcher: Batcher[Item, Answer]
    items: int = 0
    tokens: int = 0

    async def answer(self, items: Sequence[Item], deadline: float = math.inf) -> list[Done[Answer]]:
        """One Done for each item, in order.

        deadline: on the event loop's clock. Raises TimeoutError at the deadline, Overloaded or TooLarge if the
        items are more than was reserved and do not fit, Closed if the batcher has failed. An item whose caller is gone
        or whose deadline has passed is skipped, unless its batch has already begun.
        """
        return await self.batcher._answer(self, items, deadline)


class Batcher(Generic[Item, Answer]):
    """Runs `work` on batches of items in one thread of its own. Use as `async with`: leaving it drains the queue.

    work: items -> as many answers, in order, of which some may be errors; batch-mates must not matter. If it raises
    for several items, each is tried alone, so that a bad one fails alone. cost: the tokens of an item in a batch.
    report: called after each batch with its items, their tokens without and with padding, and the seconds of its work.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        cost: Callable[[Item], int],
        bounds: Bounds | None = None,
        report: Callable[[int, int, int, float], None] | None = None,
    ) -> None:
        self.bounds = bounds or Bounds()
        self.items = self.tokens = 0  # accepted and not yet answered
        self._work, self._cost, self._report = work, cost, report
        self._waiting: dict[_Entry[Item, Answer], None] = {}  # in order of arrival; any entry leaves in O(1)
        self._jobs: set[_Job[Answer]] = set()
        self._slots = 0
        self._closing = False
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guard-engine")

    async def __aenter__(self) -> Batcher[Item, Answer]:
        self._task = asyncio.create_task(self._run(), name="guard-batcher")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def open(self) -> bool:
        """Whether it runs and accepts new slots."""
        return not self._closing

    @contextmanager
    def reserve(self, items: int, tokens: int) -> Iterator[Slot[Item, Answer]]:
        """A slot with room for about this much.

        Raises Overloaded if it does not fit now, TooLarge if it never will, Closed after `close`.
        """
        if self._closing:
            raise Closed(_CLOSED)
        slot: Slot[Item, Answer] = Slot(self)
        self._hold(slot, items, tokens)
        self._slots += 1
        try:
            yield slot
        finally:
            self._hold(slot, 0, 0)
            self._slots -= 1
            if self._closing and not self._slots:
                self._drained.set()

    async def close(self) -> None:
        """Refuses new slots, waits until the held ones have been answered, and stops.

        If the wait is cancelled, unanswered items get Closed.
        """
        self._closing = True
        try:
            if self._slots:
                await self._drained.wait()
        finally:
            self._task.cancel()
            self._thread.shutdown(wait=False)
        await self.stopped()

    async def stopped(self) -> None:
        """Returns when the batcher has stopped, by `close` or by a failure."""
        await asyncio.wait([self._task])

    def _hold(self, slot: Slot[Item, Answer], items: int, tokens: int) -> None:
        """Sets what the slot holds; where it does not fit, raises and changes nothing."""
        bounds = self.bounds
        if items > bounds.queue_items or tokens > bounds.queue_tokens:
            raise TooLarge(
                f"the request needs {items} windows and about {tokens} tokens; the queue holds at most "
                f"{bounds.queue_items} windows and {bounds.queue_tokens} tokens; split the request"
            )
        all_items, all_tokens = self.items - slot.items + items, self.tokens - slot.tokens + tokens
        if all_items > bounds.queue_items or all_tokens > bounds.queue_tokens:
            raise Overloaded(
                f"the queue holds {self.items} windows ({self.tokens} tokens) of at most {bounds.queue_items} "
                f"({bounds.queue_tokens}); try again later"
            )
        self.items, self.tokens = all_items, all_tokens
        slot.items, slot.tokens = items, tokens

    async def _answer(self, slot: Slot[Item, Answer], items: Sequence[Item], deadline: float) -> list[Done[Answer]]:
        if self._task.done():
            raise Closed(_CLOSED)
        costs = [self._cost(item) for item in items]
        self._hold(slot, len(items), sum(costs))
        if not items:
            return []
        loop = asyncio.get_running_loop()
        job: _Job[Answer] = _Job(len(items), deadline, loop.time(), loop.create_future())
        entries = [_Entry(job, index, item, costs[index]) for index, item in enumerate(items)]
        self._jobs.add(job)
        self._waiting.update(dict.fromkeys(entries))
        self._arrived.set()
        try:
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                await job.finished
        finally:
            self._jobs.discard(job)
            for entry in entries:
                self._waiting.pop(entry, None)
        return [job.done[index] for index in range(job.count)]

    async def _run(self) -> None:
        try:
            while True:
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                if batch := self._cut():
                    await self._process(batch)
        finally:
            self._closing = True
            for job in self._jobs:
                if not job.finished.done():
                    job.finished.set_exception(Closed(_CLOSED))

    def _cut(self) -> list[_Entry[Item, Answer]]:
        """The oldest entry and, of those next in line, the ones nearest to it in length; they leave the queue."""
        now = asyncio.get_running_loop().time()
        front = list(islice(self._waiting, _LOOKAHEAD * self.bounds.batch_items))
        live = [entry for entry in front if entry.job.deadline > now and not entry.job.finished.done()]
        batches = padded_batches([entry.tokens for entry in live], self.bounds.batch_tokens, self.bounds.batch_items)
        batch = next(([live[index] for index in batch] for batch in batches if 0 in batch), [])
        # Expired entries leave too: their callers are gone, or about to get TimeoutError.
        for entry in {*front} - {*live} | {*batch}:
            del self._waiting[entry]
        return batch

    async def _process(self, batch: list[_Entry[Item, Answer]]) -> None:
        if not await self._attempt(batch):
            for entry in batch:
                if not entry.job.finished.done():
                    await self._attempt([entry])

    async def _attempt(self, batch: list[_Entry[Item, Answer]]) -> bool:
        """Whether the batch is answered. An error answers only an entry that was alone."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        answers = await loop.run_in_executor(self._thread, self._call, [entry.item for entry in batch])
        work_ms = (loop.time() - started) * 1e3
        if self._report is not None:
            costs = [entry.tokens for entry in batch]
            self._report(len(batch), sum(costs), max(costs) * len(batch), work_ms / 1e3)
        if isinstance(answers, Exception):
            if len(batch) > 1:
                return False
            answers = [answers]
        for entry, answer in zip(batch, answers, strict=True):
            job = entry.job
            job.done[entry.index] = Done(answer, (started - job.submitted) * 1e3, work_ms)
            if len(job.done) == job.count and not job.finished.done():
                job.finished.set_result(None)
        return True

    def _call(self, items: list[Item]) -> Sequence[Answer | Exception] | Exception:
        """The answers, or the error as a value: no future can carry a StopIteration, which would hang its waiter."""
        try:
            answers = self._work(items)
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            return error
        if len(answers) != len(items):
            return EngineError(
                f"the engine returned {len(answers)} answers for {len(items)} items; this is a bug of the engine"
            )
        return answers
