"""What a service reports of its work: the interface that metrics and traces implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from guard.serve.core.info import ServiceInfo
from guard.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Load:
    """What is accepted and not yet answered, and whether more is accepted."""

    windows: int
    tokens: int
    ready: bool


class Observer:
    """Called on the event loop's thread, with nothing that holds user text; this one reports nothing.

    The codes of a verdict may be a caller's own words, as those of the policy that `describe` tells cannot.
    """

    def describe(self, info: ServiceInfo) -> None:
        """The model that answers from now on, and its own policy."""

    def load(self, now: Callable[[], Load]) -> None:
        """How to ask for the load of the service that begins to answer."""

    def call(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Around a call of a transport: its method or path, and its headers in lower case."""
        return nullcontext()

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call of a transport has ended: its method or path, and the name or number of its status."""

    def judged(self, verdict: Verdict) -> None:
        """A conversation has its verdict."""

    def refused(self, reason: str) -> None:
        """A request got this kind of error instead of verdicts."""

    def cancelled(self) -> None:
        """A caller has gone before its answer."""

    def unlogged(self) -> None:
        """A request's lines of the audit log are lost."""

    def reloaded(self, done: bool) -> None:
        """A reload has put another model in place, or failed."""

    def batch(self, windows: int, tokens: int, padded: int, seconds: float) -> None:
        """The engine has answered a batch of so many tokens, with and without padding."""

    def reward_load(self, component: str, now: Callable[[], int]) -> None:
        """How to ask for how many answers a reward model has accepted and not yet scored."""

    def reward_batch(self, component: str, answers: int, seconds: float) -> None:
        """A reward model has scored a batch of answers."""

    def unrewarded(self, reason: str) -> None:
        """An answer that could not be judged, for this kind of error, has the lowest reward."""


class Observers(Observer):
    """Reports to several."""

    def __init__(self, *each: Observer) -> None:
        self.each = each

    def describe(self, info: ServiceInfo) -> None:
        for one in self.each:
            one.describe(info)

    def load(self, now: Callable[[], Load]) -> None:
        for one in self.each:
            one.load(now)

    def call(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return _all(one.call(method, headers) for one in self.each)

    def called(self, method: str, code: str, seconds: float) -> None:
        for one in self.each:
            one.called(method, code, seconds)

    def judged(self, verdict: Verdict) -> None:
        for one in self.each:
            one.judged(verdict)

    def refused(self, reason: str) -> None:
        for one in self.each:
            one.refused(reason)

    def cancelled(self) -> None:
        for one in self.each:
            one.cancelled()

    def unlogged(self) -> None:
        for one in self.each:
            one.unlogged()

    def reloaded(self, done: bool) -> None:
        for one in self.each:
            one.reloaded(done)

    def batch(self, windows: int, tokens: int, padded: int, seconds: float) -> None:
        for one in self.each:
            one.batch(windows, tokens, padded, seconds)

    def reward_load(self, component: str, now: Callable[[], int]) -> None:
        for one in self.each:
            one.reward_load(component, now)

    def reward_batch(self, component: str, answers: int, seconds: float) -> None:
        for one in self.each:
            one.reward_batch(component, answers, seconds)

    def unrewarded(self, reason: str) -> None:
        for one in self.each:
            one.unrewarded(reason)


@contextmanager
def _all(each: Iterator[AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in each:
            stack.enter_context(one)
        yield
