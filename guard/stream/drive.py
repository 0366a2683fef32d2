"""Drivers of machines that check what passes through them: over blocking iterators, and over asynchronous ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from guard.conversation import Conversation
from guard.errors import GuardError
from guard.stream.holdback import Check
from guard.verdict import Verdict

In = TypeVar("In")
Out = TypeVar("Out")
In_ = TypeVar("In_", contravariant=True)
Answer = Verdict | GuardError


class Machine(Protocol[In_, Out]):
    """What HoldBack is for deltas of text; another may be made of several. It is fed while it `wants_input`."""

    @property
    def wants_input(self) -> bool: ...

    @property
    def done(self) -> bool: ...

    def push(self, delta: In_, now: float) -> list[Out]: ...

    def end(self, now: float) -> list[Out]: ...

    def wait(self, now: float) -> float | None: ...

    def due(self, now: float) -> Check | None: ...

    def judged(self, check: Check, answer: Answer) -> list[Out]: ...


def drive(
    machine: Machine[In, Out],
    deltas: Iterable[In],
    judge: Callable[[Conversation], Answer],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Out]:
    """What the machine makes of the deltas. A check blocks; the time that one is due at is noticed with a delta."""
    for delta in deltas:
        yield from machine.push(delta, clock())
        yield from _checked(machine, judge, clock)
        if machine.done:
            return
    yield from machine.end(clock())
    yield from _checked(machine, judge, clock)


def _checked(
    machine: Machine[In, Out], judge: Callable[[Conversation], Answer], clock: Callable[[], float]
) -> Iterator[Out]:
    while (check := machine.due(clock())) is not None:
        yield from machine.judged(check, judge(check.conversation))


_END = object()


async def drive_async(
    machine: Machine[In, Out], deltas: AsyncIterator[In], judge: Callable[[Conversation], Awaitable[Answer]]
) -> AsyncGenerator[Out, None]:
    """What the machine makes of the deltas, which are read while a check is under way, as far as it wants them.

    A consumer that is slow to take the results stops the reading, too. Raises what `deltas` or `judge` raise. Close it
    (contextlib.aclosing) to cancel what is under way.
    """
    clock = asyncio.get_running_loop().time
    reading: asyncio.Future[object] | None = None
    judging: asyncio.Future[Answer] | None = None
    check: Check | None = None
    ended = False
    try:
        while not machine.done:
            if judging is None and (check := machine.due(clock())) is not None:
                judging = asyncio.ensure_future(judge(check.conversation))
            if reading is None and not ended and machine.wants_input:
                reading = asyncio.ensure_future(_next(deltas))
            tasks = [task for task in (reading, judging) if task is not None]
            await asyncio.wait(tasks, timeout=machine.wait(clock()), return_when=asyncio.FIRST_COMPLETED)
            if judging is not None and judging.done() and check is not None:
                answer, judging = judging.result(), None
                for out in machine.judged(check, answer):
                    yield out
            if reading is not None and reading.done() and not machine.done:
                delta, reading = reading.result(), None
                ended = delta is _END
                for out in machine.end(clock()) if ended else machine.push(delta, clock()):  # type: ignore[arg-type]
                    yield out
    finally:
        pending = [task for task in (reading, judging) if task is not None]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _next(deltas: AsyncIterator[object]) -> object:
    return await anext(deltas, _END)
