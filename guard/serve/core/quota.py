"""What one key may use: conversations a second, and calls at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from guard.errors import QuotaExceeded


@dataclass(slots=True, eq=False)
class Quota:
    """A token bucket of one second's worth, and a counter of calls. For one event loop."""

    clock: Callable[[], float] = time.monotonic
    calls: int = 0
    _level: float | None = None  # None: full
    _at: float = field(default=0.0)

    @contextmanager
    def call(self, most: int | None) -> Iterator[None]:
        """Counts a call until the end of the block. Raises QuotaExceeded where `most` go on already."""
        if most is not None and self.calls >= most:
            raise QuotaExceeded(f"the key may have {most} calls at a time; try again when one has ended", 1.0)
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    def spend(self, conversations: int, per_second: float) -> None:
        """Takes this many conversations from the bucket. Raises QuotaExceeded, with the time to wait, if it is empty.

        A batch that is larger than what is left is taken, too, and the next one waits for longer: refused, it would
        never pass.
        """
        now, full = self.clock(), max(per_second, 1.0)
        level = full if self._level is None else min(full, self._level + (now - self._at) * per_second)
        if level < 1:
            wait = (1 - level) / per_second
            raise QuotaExceeded(
                f"the key may have {per_second:g} conversations a second; try again in {wait:.1f} s", wait
            )
        self._level, self._at = level - conversations, now


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is from: the name of its key, and what that may use; per_second None: without bound."""

    name: str
    quota: Quota
    per_second: float | None

    def spend(self, conversations: int) -> None:
        """Raises QuotaExceeded if its key may not have so many now."""
        if self.per_second is not None:
            self.quota.spend(conversations, self.per_second)


# Of the call that the running task belongs to; None where keys are not asked for. It takes the way of the event loop,
# because the formats of `http` build their requests as pure functions, which know nobody.
CALLER: ContextVar[Caller | None] = ContextVar("guard_caller", default=None)
