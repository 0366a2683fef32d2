"""A batcher: many callers' items become few calls of a worker or several. It knows no model and no text.

One task owns the queue. It cuts a batch as soon as a worker is free, so batches form while they are busy and
no timer is needed. The queue is fair between flows, the requests of one client and priority: each item has a place in
virtual time, which passes as its flow is served (start-time fair queueing, Goyal et al. 1996). A flow's jobs start in
their order; the items of one job follow one another as far apart as all of its flow's jobs need, so that a long job
lets a short one pass. A caller first reserves room, before any expensive work, then submits its items:

    with batcher.reserve(items=1, tokens=bound) as slot:
        items = ...                            # expensive
        done = await slot.answer(items)        # one Done for each item, in order

Every accepted item is answered exactly once: with its answer, with its own error, or through the exception of
`answer`.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from guard.engines.base import padded_batches
from guard.errors import Closed, EngineError, Overloaded, TooLarge

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_LOOKAHEAD = 4  # batches' worth of waiting items to choose from, so that the oldest gets batch-mates of its length
HOPELESS = 2.0  # times what is left before its deadline a job would wait, to be refused at once
_SMOOTHING = 0.1  # the weight of the last batch in the seconds of an item
_CLOSED = "the service is shutting down or has stopped; send the request to another server"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The queue's bounds count all that is accepted and not yet answered; a batch's tokens count its padding."""

    queue_items: int = 4096
    queue_tokens: int = 1 << 20
    batch_items: int = 64
    batch_tokens: int = 2048


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose requests are served in turn with those of others. weight: its share beside a flow of weight 1."""

    client: str = ""
    weight: float = 1.0


@dataclass(slots=True)
class _Served:
    """A flow that has jobs waiting: how many, and the virtual time before which no other job of it starts."""

    jobs: int = 0
    until: float = 0.0


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
    place: tuple[float, int]  # in virtual time, and the number of its arrival


def _place(entry: _Entry[Item, Answer]) -> tuple[float, int]:
    return entry.place


@dataclass(slots=True, eq=False)
class Slot(Generic[Item, Answer]):
    """Room in the queue, held until the `with` block of `reserve` ends."""

    batcher: Batcher[Item, Answer]
    flow: Flow
    items: int = 0
    tokens: int = 0

    async def answer(self, items: Sequence[Item], deadline: float = math.inf) -> list[Done[Answer]]:
        """One Done for each item, in order.

        deadline: on the event loop's clock. Raises TimeoutError at the deadline, Overloaded if the queue is so long
        that it is hopeless, or if the items are more than was reserved and do not fit, TooLarge if they never will,
        Closed if the batcher has failed. An item whose caller is gone or whose deadline has passed is skipped, unless
        its batch has already begun.
        """
        return await self.batcher._answer(self, items, deadline)


class Batcher(Generic[Item, Answer]):
    """Runs `work` on batches of items in threads of its own. Use as `async with`: leaving it drains the queue.

    work: items -> as many answers, in order, of which some may be errors; batch-mates must not matter. If it raises
    for several items, each is tried alone, so that a bad one fails alone. cost: the tokens of an item in a batch. key:
    of items with equal keys in a batch, `work` gets one; None: all items differ.
    parallel: how many batches `work` is called with at a time, each in a thread.
    report: called after each batch with its items, their tokens without and with padding, and the seconds of its work.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        cost: Callable[[Item], int],
        bounds: Bounds | None = None,
        report: Callable[[int, int, int, float], None] | None = None,
        key: Callable[[Item], Hashable] | None = None,
        parallel: int = 1,
    ) -> None:
        self.bounds = bounds or Bounds()
        self.items = self.tokens = 0  # accepted and not yet answered
        self._work, self._cost, self._report, self._key = work, cost, report, key
        self._waiting: list[_Entry[Item, Answer]] = []  # by place
        self._flows: dict[Flow, _Served] = {}
        self._served = 0.0  # the virtual time: the place of what was last served
        self._arrivals = count()
        self._item_s = 0.0  # seconds of work for an item, of late
        self._jobs: set[_Job[Answer]] = set()
        self._slots = 0
        self._closing = False
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._parallel = parallel
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="guard-engine")

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
    def reserve(self, items: int, tokens: int, flow: Flow = Flow()) -> Iterator[Slot[Item, Answer]]:
        """A slot with room for about this much.

        Raises Overloaded if it does not fit now, TooLarge if it never will, Closed after `close`.
        """
        if self._closing:
            raise Closed(_CLOSED)
        slot: Slot[Item, Answer] = Slot(self, flow)
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
            self._threads.shutdown(wait=False)
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
        served = self._flows.setdefault(slot.flow, _Served())
        served.jobs += 1
        entries = self._entries(job, items, costs, slot.flow, served)
        self._jobs.add(job)
        try:
            self._check_hope(entries[0], job)
            for entry in entries:
                insort(self._waiting, entry, key=_place)
            self._arrived.set()
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                await job.finished
        finally:
            self._jobs.discard(job)
            for entry in entries:
                self._leave(entry)
            served.jobs -= 1
            if not served.jobs:
                del self._flows[slot.flow]
        return [job.done[index] for index in range(job.count)]

    def _entries(
        self, job: _Job[Answer], items: Sequence[Item], costs: Sequence[int], flow: Flow, served: _Served
    ) -> list[_Entry[Item, Answer]]:
        """The items with their places, for which the flow is charged."""
        start = max(self._served, served.until)
        served.until = start + costs[0] / flow.weight
        entries, before = [], 0
        for index, (item, tokens) in enumerate(zip(items, costs, strict=True)):
            # A flow of less weight than 1 waits before its first item already, or one job at a time would hide it.
            at = start + served.jobs * before / flow.weight + tokens * max(0.0, 1 / flow.weight - 1)
            entries.append(_Entry(job, index, item, tokens, (at, next(self._arrivals))))
            before += tokens
        return entries

    def _check_hope(self, first: _Entry[Item, Answer], job: _Job[Answer]) -> None:
        """Raises Overloaded where even the job's first item would hardly be reached before the deadline."""
        wait = self._item_s * bisect_left(self._waiting, first.place, key=_place) / self._parallel
        left = job.deadline - job.submitted
        if 0 < HOPELESS * left < wait:
            raise Overloaded(
                f"about {wait:.1f} s of work wait before the request, whose deadline is in {left:.1f} s; try again "
                "later, or allow more time",
                wait - left,
            )

    def _leave(self, entry: _Entry[Item, Answer]) -> None:
        at = bisect_left(self._waiting, entry.place, key=_place)
        if at < len(self._waiting) and self._waiting[at] is entry:
            del self._waiting[at]

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as busy:
                free = asyncio.Semaphore(self._parallel)
                while True:
                    if not self._waiting:
                        self._arrived.clear()
                        await self._arrived.wait()
                    await free.acquire()
                    if batch := self._cut():
                        busy.create_task(self._process(batch)).add_done_callback(lambda _: free.release())
                    else:
                        free.release()
        finally:
            self._closing = True
            for job in self._jobs:
                if not job.finished.done():
                    job.finished.set_exception(Closed(_CLOSED))

    def _cut(self) -> list[_Entry[Item, Answer]]:
        """The first entry and, of those next in line, the ones nearest to it in length; they leave the queue."""
        now = asyncio.get_running_loop().time()
        front = self._waiting[: _LOOKAHEAD * self.bounds.batch_items]
        live = [entry for entry in front if entry.job.deadline > now and not entry.job.finished.done()]
        batches = padded_batches([entry.tokens for entry in live], self.bounds.batch_tokens, self.bounds.batch_items)
        batch = next(([live[index] for index in batch] for batch in batches if 0 in batch), [])
        if batch:
            self._served = max(self._served, live[0].place[0])
        # Expired entries leave too: their callers are gone, or about to get TimeoutError.
        staying = {*live} - {*batch}
        self._waiting[: len(front)] = [entry for entry in front if entry in staying]
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
        answers = await loop.run_in_executor(self._threads, self._call, [entry.item for entry in batch])
        work_ms = (loop.time() - started) * 1e3
        item_s = work_ms / 1e3 / len(batch)
        self._item_s += (item_s - self._item_s) * (_SMOOTHING if self._item_s else 1.0)
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
        keys: Sequence[Hashable] = range(len(items)) if self._key is None else list(map(self._key, items))
        unique = dict(zip(keys, items, strict=True))
        try:
            answers = self._work(list(unique.values()))
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            return error
        if len(answers) != len(unique):
            return EngineError(
                f"the engine returned {len(answers)} answers for {len(unique)} items; this is a bug of the engine"
            )
        known = dict(zip(unique, answers, strict=True))
        return [known[key] for key in keys]
