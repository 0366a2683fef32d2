"""Streamed completions on their way: what arrives as items of a transport, events or objects, leaves as such items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from guard.chat.chunks import Chunk
from guard.chat.gate import Gate
from guard.chat.ruling import Answer
from guard.errors import GuardError
from guard.stream import Check

Item = TypeVar("Item")


class Relay(Generic[Item]):
    """A machine (guard.stream) that moderates items as the gate's options say.

    `hold`: chunks are `read` of the items, and those that may be sent are written as items. `observe`: each item passes
    at once and as it came, and is judged behind; what cannot be read is counted, and stops nothing. read: None for an
    item without a chunk; raises UpstreamError.
    """

    def __init__(
        self, gate: Gate, limit: int, read: Callable[[Item], Chunk | None], write: Callable[[Chunk], Item]
    ) -> None:
        self._gate, self._read, self._write = gate, read, write
        self._inner = gate.stream(limit)
        self._problems: list[GuardError] = []
        self.stopped = False  # by an error of the guard, where all is shown otherwise
        self._ended = self._lost = False

    @property
    def done(self) -> bool:
        return self.stopped or self._inner.done or (self._ended and self._lost)

    @property
    def complete(self) -> bool:
        """Whether the end of every choice has come, or it was stopped."""
        return self._inner.complete

    @property
    def wants_input(self) -> bool:
        return not self._ended and (self._lost or self._inner.wants_input)

    def push(self, item: Item, now: float) -> list[Item]:
        if self._gate.holds:
            chunk = self._read(item)
            return [] if chunk is None else self._written(self._inner.push(chunk, now))
        try:
            if not self._lost and (chunk := self._read(item)) is not None:
                self._inner.push(chunk, now)
        except Exception as problem:  # noqa: BLE001 - nothing may keep from passing what passes anyway
            self._passed(problem)
        return [item]

    def end(self, now: float) -> list[Item]:
        self._ended = True
        if self._gate.holds:
            return self._written(self._inner.end(now))
        try:
            self._inner.end(now)
        except Exception as problem:  # noqa: BLE001 - as above
            self._passed(problem)
            self._lost = True
        return []

    def wait(self, now: float) -> float | None:
        return None if self._lost else self._inner.wait(now)

    def due(self, now: float) -> Check | None:
        if self._gate.holds:
            return self._inner.due(now)
        try:
            return None if self._lost else self._inner.due(now)
        except Exception as problem:  # noqa: BLE001 - as above
            self._passed(problem)
            self._lost = True
            return None

    def judged(self, check: Check, answer: Answer) -> list[Item]:
        """Raises the guard's error where the options say so."""
        options = self._gate.options
        if isinstance(answer, GuardError) and options.on_errors == "allow":
            self._gate.passes.passed("reply", answer)
        if self._gate.holds:
            return self._written(self._inner.judged(check, answer))
        if isinstance(answer, GuardError) and options.on_errors == "raise":
            raise answer
        if isinstance(answer, GuardError) and options.on_errors == "block":
            self.stopped = True
            return self._written(self._inner.stop(options.unjudged))
        self._inner.judged(check, answer)
        return []

    def last(self) -> list[Item]:
        """What comes after all choices."""
        usage = self._inner.last() if self._gate.holds else []
        return self._written([*usage, *self._gate.last(self._inner.head, [*self._inner.answers, *self._problems])])

    def _written(self, chunks: list[Chunk]) -> list[Item]:
        return list(map(self._write, chunks))

    def _passed(self, problem: Exception) -> None:
        self._gate.passes.passed("reply", problem)
        if isinstance(problem, GuardError):
            self._problems.append(problem)
