"""What a service reports of its work: the interface that metrics implement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from guard.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Load:
    """What is accepted and not yet answered."""

    windows: int
    tokens: int


class Observer(Protocol):
    """Called on the event loop's thread, with nothing that holds user text."""

    def load(self, now: Callable[[], Load]) -> None:
        """How to ask for the load of the service that begins to answer."""

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call of a transport has ended: its method or path, and the name or number of its status."""

    def judged(self, verdict: Verdict) -> None: ...

    def refused(self, reason: str) -> None:
        """A request got this kind of error instead of verdicts."""

    def cancelled(self) -> None:
        """A caller has gone before its answer."""

    def reloaded(self, done: bool) -> None:
        """A reload has put another model in place, or failed."""

    def batch(self, windows: int, tokens: int, padded: int, seconds: float) -> None:
        """The engine has answered a batch of so many tokens, with and without padding."""


class Unobserved:
    """Reports nothing."""

    def load(self, now: Callable[[], Load]) -> None: ...

    def called(self, method: str, code: str, seconds: float) -> None: ...

    def judged(self, verdict: Verdict) -> None: ...

    def refused(self, reason: str) -> None: ...

    def cancelled(self) -> None: ...

    def reloaded(self, done: bool) -> None: ...

    def batch(self, windows: int, tokens: int, padded: int, seconds: float) -> None: ...
