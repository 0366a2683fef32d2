"""Rewards: candidates scored by the guard that is live, and by reward models, each behind a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self, cast

from guard.batcher import Batcher, Bounds, Slot
from guard.errors import DeadlineExceeded, GuardError, InvalidInput, TooLarge
from guard.reward.score import CLIP, Comparison, RewardScore
from guard.reward.scorer import Scorer
from guard.serve.core.candidate import (
    Candidate,
    CandidateReward,
    Compared,
    CompareRequest,
    Component,
    RewardRequest,
    oversized,
)
from guard.serve.core.errors import public, publicly
from guard.serve.core.guard_reward import NOT_REFUSAL, OF_GUARD, SAFE, Part, by_guard, sound
from guard.serve.core.observer import Observer
from guard.serve.core.origin import ORIGIN
from guard.serve.core.quota import CALLER
from guard.serve.core.reward_item import Item, Told, answered
from guard.serve.core.service import Service
from guard.serve.limits import Limits
from guard.verdict import sigmoid

# Those of guard.reward.components: a refusal costs half as much as harm. A reward model of another name has none.
WEIGHTS: Mapping[str, float] = MappingProxyType({SAFE: 1.0, NOT_REFUSAL: 0.5, "helpful": 1.0})
EMPTY = RewardScore(0.0, 0.5, 0.0)  # of an empty answer: evidence neither of safety nor of harm
_BATCH_TOKENS = 16384  # of a reward model, which cuts smaller batches itself where it has to
_LATE = "no reward before the deadline; allow more time"


class Rewards:
    """Scores candidates. Use as `async with`: leaving it drains the accepted requests.

    scorers: the reward models, by the names of their components. Each has a queue and a thread of its own, so that a
    slow one delays neither the others nor moderation. weights: by component; one without is left out of the sum.

    Every error that it raises or answers with is safe for callers (core.errors).
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        limits: Limits,
        observer: Observer | None = None,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        self.scorers, self.weights, self._observer = scorers, weights, observer or Observer()
        bounds = Bounds(limits.queue_windows, limits.queue_tokens, batch_tokens=_BATCH_TOKENS)
        self._batchers: dict[str, Batcher[Item, Told]] = {
            name: Batcher(
                functools.partial(answered, scorer),
                lambda item: item.tokens,
                bounds,
                functools.partial(_report, self._observer, name),
                attrgetter("key"),
            )
            for name, scorer in scorers.items()
        }
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for name, batcher in self._batchers.items():
            await self._open.enter_async_context(batcher)
            self._observer.reward_load(name, _load(batcher))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def drain(self) -> None:
        """Refuses new requests to the reward models, and returns when the accepted ones are answered."""
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))

    async def stopped(self) -> None:
        """Returns when a reward model has stopped answering, drained or failed; never without one."""
        waits = [asyncio.ensure_future(batcher.stopped()) for batcher in self._batchers.values()]
        try:
            await (asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED) if waits else asyncio.Event().wait())
        finally:
            for wait in waits:
                wait.cancel()

    @property
    def components(self) -> tuple[str, ...]:
        """The names of all, those of the guard first."""
        return (*OF_GUARD, *self.scorers)

    async def score(self, service: Service, request: RewardRequest) -> list[CandidateReward]:
        """The reward of each candidate, in order; one that cannot be judged has an `error` and the lowest reward.

        service: whose guard judges. Errors that concern all candidates are raised: InvalidInput, PolicyError,
        Overloaded, Closed, DeadlineExceeded or InternalError.
        """
        rewards = await publicly(self._score(service, request))
        for reward in rewards:
            if reward.error is not None:
                self._observer.unrewarded(type(reward.error).__name__)
        return rewards

    async def compare(self, service: Service, request: CompareRequest) -> Compared:
        """Which of two answers is better. Raises as `score` does, and the error of either answer."""
        return await publicly(self._compare(service, request))

    async def _score(self, service: Service, request: RewardRequest) -> list[CandidateReward]:
        most = service.limits.batch_conversations
        if len(request.candidates) > most:
            raise TooLarge(f"the batch has {len(request.candidates)} candidates, must be <= {most}")
        names = self._chosen(request)
        read = [self._checked(one, names, service.limits) for one in request.candidates]
        sound = {at: one for at, one in enumerate(read) if isinstance(one, Candidate) and not one.empty}
        told = dict(zip(sound, await self._told(service, request, names, list(sound.values())), strict=True))
        return [
            self._reward(dict.fromkeys(names, one))
            if isinstance(one, GuardError)
            else self._reward(dict.fromkeys(names, (EMPTY, "")))
            if one.empty
            else self._reward(told[at])
            for at, one in enumerate(read)
        ]

    async def _told(
        self, service: Service, request: RewardRequest, names: Sequence[str], candidates: Sequence[Candidate]
    ) -> list[dict[str, Part]]:
        """The components of each candidate."""
        if not candidates:
            return []
        guarded, models = [name for name in OF_GUARD if name in names], [name for name in names if name in self.scorers]
        items = [
            Item("score" if each.reference is None else "beat", each.prompt, each.response, each.reference or "")
            for each in candidates
        ]
        seconds = min(service.limits.request_seconds, request.seconds)
        with self._held(models, items, guarded) as slots:
            work: list[Any] = [self._by_model(name, slots[name], items, seconds) for name in models]
            if guarded:
                work.append(by_guard(service, candidates, guarded, request.options, seconds))
            columns: dict[str, Sequence[Part]] = {}
            for part in await _together(work):
                columns |= part
        return [{name: columns[name][row] for name in names} for row in range(len(candidates))]

    async def _compare(self, service: Service, request: CompareRequest) -> Compared:
        name = request.component or next(iter(self.scorers), SAFE)
        if name != SAFE and name not in self.scorers:
            known = ", ".join((SAFE, *self.scorers))
            raise InvalidInput(f"no component {name[:80]!r} compares answers; known: {known}")
        first, second = request.first, Candidate(request.first.prompt, request.second)
        for each in (first, second):
            if each.empty:
                raise InvalidInput("an answer must have at least one visible character")
            if (error := oversized(each, service.limits)) is not None:
                raise error
        seconds = min(service.limits.request_seconds, request.seconds)
        if name == SAFE:
            column = (await by_guard(service, [first, second], [SAFE], request.options, seconds))[SAFE]
            (a, model), (b, _) = map(sound, column)
            comparison = Comparison(sigmoid(a.raw - b.raw), coverage=min(a.coverage, b.coverage))
            return Compared(comparison, name, model)
        items = [Item("compare", first.prompt, first.response, second.response)]
        with self._held([name], items, ()) as slots:
            (answer,) = await self._answers(slots[name], items, seconds)
        if isinstance(answer, GuardError):
            raise answer
        assert isinstance(answer, Comparison)
        return Compared(answer, name, self.scorers[name].info.fingerprint)

    def _chosen(self, request: RewardRequest) -> tuple[str, ...]:
        """The names of the components to compute. Raises InvalidInput for an unknown one."""
        if not request.components:
            referred = all(isinstance(one, InvalidInput) or one.reference is not None for one in request.candidates)
            return tuple(name for name in self.components if referred or not self._only_compares(name))
        for name in request.components:
            if name not in self.components:
                raise InvalidInput(f"unknown component {name[:80]!r}; known: {', '.join(self.components)}")
        return tuple(dict.fromkeys(request.components))

    def _checked(self, one: Candidate | InvalidInput, names: Iterable[str], limits: Limits) -> Candidate | InvalidInput:
        if isinstance(one, InvalidInput):
            return one
        if (error := oversized(one, limits)) is not None:
            return error
        if one.reference is None and (comparing := next(filter(self._only_compares, names), None)) is not None:
            return InvalidInput(f"{comparing} only compares answers; give `reference`, an answer to beat")
        if one.reference is not None and not one.reference.strip():
            return InvalidInput("reference must have at least one visible character")
        return one

    def _only_compares(self, name: str) -> bool:
        return name in self.scorers and self.scorers[name].reader.pairwise

    @contextlib.contextmanager
    def _held(
        self, models: Sequence[str], items: Sequence[Item], guarded: Sequence[str]
    ) -> Iterator[dict[str, Slot[Item, Told]]]:
        """Room for the items in the queues of these models. Where the guard is not asked, which does both itself, the
        caller's quota is spent and its leaving counted here."""
        with ExitStack() as held:
            with self._refusals_counted():
                if (caller := CALLER.get()) is not None and not guarded:
                    caller.spend(len(items))
                tokens, flow = sum(item.tokens for item in items), ORIGIN.get().flow
                slots = {
                    name: held.enter_context(self._batchers[name].reserve(len(items), tokens, flow)) for name in models
                }
            try:
                yield slots
            except asyncio.CancelledError:
                if not guarded:
                    self._observer.cancelled()
                raise

    @contextlib.contextmanager
    def _refusals_counted(self) -> Iterator[None]:
        try:
            yield
        except GuardError as error:
            self._observer.refused(type(error).__name__)
            raise

    async def _by_model(
        self, name: str, slot: Slot[Item, Told], items: Sequence[Item], seconds: float
    ) -> dict[str, list[Part]]:
        digest = self.scorers[name].info.fingerprint
        answers = cast(list[RewardScore | GuardError], await self._answers(slot, items, seconds))
        return {name: [(one, digest) if isinstance(one, RewardScore) else one for one in answers]}

    async def _answers(self, slot: Slot[Item, Told], items: Sequence[Item], seconds: float) -> list[Told | GuardError]:
        with self._refusals_counted():
            try:
                done = await slot.answer(items, asyncio.get_running_loop().time() + seconds)
            except TimeoutError:
                raise DeadlineExceeded(_LATE) from None
        return [public(one.answer) if isinstance(one.answer, Exception) else one.answer for one in done]

    def _reward(self, parts: Mapping[str, Part]) -> CandidateReward:
        """The sum of components, or the lowest if one of them failed."""
        weights = {name: self.weights.get(name, 0.0) for name in parts}
        error = next((part for part in parts.values() if isinstance(part, GuardError)), None)
        components = {
            name: Component(None, weights[name])
            if isinstance(part, GuardError)
            else Component(part[0], weights[name], part[1])
            for name, part in parts.items()
        }
        if error is not None:
            return CandidateReward(-CLIP * sum(map(abs, weights.values())), components, error)
        known = [weights[name] * each.reward for name, each in components.items() if each.reward is not None]
        return CandidateReward(sum(known), components)


async def _together(work: Sequence[Any]) -> list[Any]:
    """The results of all; the first error cancels the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(observer: Observer, name: str, items: int, tokens: int, padded: int, seconds: float) -> None:
    observer.reward_batch(name, items, seconds)


def _load(batcher: Batcher[Item, Told]) -> Callable[[], int]:
    return lambda: batcher.items
