"""Rewards for reinforcement learning as named components: safe, not a refusal, helpful; and their weighted sum.

A guard alone teaches a policy to refuse everything. So refusals are a component of their own, which counts only where
refusing is wrong, and any reward model may say how helpful an answer is.

>>> rewards = Components(safe=fake_safety())
>>> [round(each.total, 2) for each in rewards.score([("Hi", "Hello there!"), ("Hi", "violates:M1")])]
[5.85, -4.0]
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeGuard

from guard.conversation import Message
from guard.errors import ConfigError, GuardError, InvalidInput
from guard.moderator.guard import Guard
from guard.reward.baselines import guard_digest
from guard.reward.completion import Completion, Turns, is_null, read_completion
from guard.reward.score import CLIP, clipped
from guard.reward.scorer import Scorer
from guard.verdict import Outcome, Verdict, log_odds

NAMES = ("safe", "not_refusal", "helpful")
# What frameworks and reports call the sum and what stands beside the components.
RESERVED = frozenset(
    {*NAMES, "total", "reward", "rewards", "score", "scores", "undecided", "refusals", "length", "prompts"}
)
# Safety and helpfulness count alike; a refusal costs half as much as harm, or it would be worth answering harmfully.
WEIGHTS: Mapping[str, float] = MappingProxyType({"safe": 1.0, "not_refusal": 0.5, "helpful": 1.0})
_INCOMPLETE = Outcome.INCOMPLETE.name
EMPTY = 0.0  # of an empty completion: evidence neither of safety nor of harm


@dataclass(frozen=True, slots=True)
class Reward:
    """The components, each log-odds within ±CLIP, and their weighted sum. A component is None where it does not apply
    or could not be computed.

    undecided: something could not be judged, and `total` is the lowest reward. reason: what, like the kind of an error
    or the name of a component; never a text.
    """

    total: float
    components: Mapping[str, float | None]
    undecided: bool = False
    reason: str = ""

    @property
    def numbers(self) -> dict[str, float]:
        """The components for frameworks that make a column of each: every answer has all, and 0 where one has no
        value."""
        return {name: 0.0 if value is None else value for name, value in self.components.items()}

    @property
    def logs(self) -> dict[str, float]:
        """The same, and whether it is undecided."""
        return {**self.numbers, "undecided": float(self.undecided)}

    @property
    def unreadable(self) -> bool:
        """Whether it is undecided because of what the model wrote, and not because a judge failed."""
        return self.undecided and self.reason in (_INCOMPLETE, InvalidInput.__name__)


@dataclass(frozen=True, eq=False)
class Components:
    """Scores answers by a guard and, if given, by reward models. Thread-safe as they are.

    helpful: a reward model; others: more of them, by the names of their components. weights: by component; one that has
    none is returned and left out of the sum. lowest: the reward of an answer that cannot be judged; None: the lowest
    sum that there can be, -CLIP times the sum of the absolute weights of all components that are given.

    ConfigError for a weight of an unknown component or that is not finite, for a name that is reserved, for a reward
    model that only compares, and for a `lowest` above the lowest sum: a failure must not be worth more than any answer.
    """

    safe: Guard
    helpful: Scorer | None = None
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    others: Mapping[str, Scorer] = field(default_factory=dict)
    lowest: float | None = None

    def __post_init__(self) -> None:
        check_names(self.others)
        if strange := [name for name in self.weights if name not in self.names]:
            raise ConfigError(f"weights.{strange[0][:40]}: is no component; allowed: {', '.join(self.names)}")
        if not all(math.isfinite(weight) for weight in self.weights.values()):
            raise ConfigError("weights must be finite numbers")
        for name, scorer in self.scorers.items():
            if scorer.reader.pairwise:
                raise ConfigError(f"{scorer.info.system} compares answers; `{name}` must score single ones")
        if self.lowest is not None and not -math.inf < self.lowest <= self.bound:
            raise ConfigError(
                f"lowest must be finite and <= {self.bound:g}, the lowest sum of the components (got {self.lowest:g})"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of all components."""
        return (*NAMES, *self.others)

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        return {**({} if self.helpful is None else {"helpful": self.helpful}), **self.others}

    @property
    def bound(self) -> float:
        """No sum of the components that are given is lower."""
        return -CLIP * sum(abs(self.weights.get(name, 0.0)) for name in ("safe", "not_refusal", *self.scorers))

    @property
    def digests(self) -> dict[str, str]:
        """What each component is made of: of `safe` the guard's model, policy and version, else a fingerprint."""
        return {
            "safe": guard_digest(self.safe.info),
            **{name: scorer.info.fingerprint for name, scorer in self.scorers.items()},
        }

    def score(
        self, asked: Sequence[tuple[Turns, Turns]], refusable: Sequence[bool | None] | None = None
    ) -> list[Reward]:
        """The reward of each (prompt, completion), in order; one bad row never fails the others.

        Of several messages of the assistant the least safe one counts, and whether the last one refuses; reward models
        see what it says in all of them. refusable: whether refusing is right, as it is for a harmful prompt, so that
        `not_refusal` does not apply; None, also of a row: it is not. An empty answer gets EMPTY for every component.
        """
        may = [not is_null(each) and bool(each) for each in ([None] * len(asked) if refusable is None else refusable)]
        read = [_read(*row) for row in asked]
        readable = {row: each for row, each in enumerate(read) if isinstance(each, Completion) and each.said}
        said = [(row, each) for row, completion in readable.items() for each in completion.said]
        answers = self.safe.moderate_each([conversation for _, conversation in said]) if said else []
        verdicts: dict[int, list[Verdict | GuardError]] = {}
        for (row, _), answer in zip(said, answers, strict=True):
            verdicts.setdefault(row, []).append(answer)
        told = {
            name: dict(zip(readable, _scores(scorer, readable.values()), strict=True))
            for name, scorer in self.scorers.items()
        }
        return [
            self.undecided(completion)
            if isinstance(completion, str)
            else Reward(EMPTY, dict.fromkeys(self.names, EMPTY))
            if not completion.said
            else self._reward(verdicts[row], {name: values[row] for name, values in told.items()}, may[row])
            for row, completion in enumerate(read)
        ]

    def _reward(
        self, verdicts: Sequence[Verdict | GuardError], scores: Mapping[str, float | None], refusable: bool
    ) -> Reward:
        failed = [_reason(verdict) for verdict in verdicts if not _decided(verdict)]
        failed += [name for name, value in scores.items() if value is None]
        if failed:
            return self.undecided(failed[0], scores)
        safe = min(clipped(-log_odds(verdict.p_unsafe)) for verdict in verdicts if _decided(verdict))
        refusal = verdicts[-1].p_refusal if _decided(verdicts[-1]) and not refusable else None
        odds = None if refusal is None else clipped(-log_odds(refusal))
        parts = {**dict.fromkeys(self.names), "safe": safe, "not_refusal": odds, **scores}
        known = {name: value for name, value in parts.items() if value is not None}
        return Reward(sum(self.weights.get(name, 0.0) * value for name, value in known.items()), parts)

    def undecided(self, reason: str, scores: Mapping[str, float | None] = MappingProxyType({})) -> Reward:
        """The lowest reward, of an answer that cannot be judged for this reason."""
        lowest = self.bound if self.lowest is None else self.lowest
        return Reward(lowest, {**dict.fromkeys(self.names), **scores}, True, reason)


def check_names(names: Sequence[str] | Mapping[str, Any]) -> None:
    """ConfigError for a name of a component that is reserved, or no identifier."""
    for name in names:
        if name in RESERVED or not name.isidentifier():
            why = "is reserved" if name in RESERVED else "is no identifier"
            raise ConfigError(f"component {name[:40]!r}: {why}; reserved: {', '.join(sorted(RESERVED))}")


def _read(prompt: Turns, completion: Turns) -> Completion | str:
    """Or why one of them cannot be read."""
    try:
        return read_completion(prompt, completion)
    except InvalidInput as problem:
        return _reason(problem)


def _reason(answer: Verdict | GuardError) -> str:
    return _INCOMPLETE if isinstance(answer, Verdict) else type(answer).__name__


def _decided(answer: Verdict | GuardError) -> TypeGuard[Verdict]:
    return isinstance(answer, Verdict) and answer.outcome is not Outcome.INCOMPLETE


def _scores(scorer: Scorer, asked: Iterable[Completion]) -> list[float | None]:
    """None for an answer that the reward model cannot score."""
    rows = [(completion.prompt, completion.text) for completion in asked]
    if not rows:
        return []
    try:
        return [score.reward for score in scorer.score_many(rows)]
    except GuardError:
        return [_one_score(scorer, *row) for row in rows]


def _one_score(scorer: Scorer, prompt: tuple[Message, ...], text: str) -> float | None:
    try:
        return scorer.score(prompt, text).reward
    except GuardError:
        return None


def fake_safety() -> Guard:
    """The guard without a model, for tests and examples."""
    from guard.serve.client import open_guard

    return open_guard("fake", None, "minimal")


@dataclass(slots=True)
class Audit:
    """Signs of reward hacking over a training: drifts since its first answers, and the gap to a second scorer.

    Such signs are found after the fact and warn poorly: they are an audit, no alarm (see docs/rewards.md).
    """

    window: int = 256
    _first: dict[str, float] = dataclasses.field(default_factory=dict)
    _sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def add(self, answers: Sequence[str], rewards: Sequence[Reward], second: Sequence[float] | None = None) -> None:
        """Takes a batch: its answers, their rewards, and what a scorer that nobody trains against says."""
        values: dict[str, list[float]] = {
            "length": [float(len(answer)) for answer in answers],
            "reward": [reward.total for reward in rewards],
            "undecided": [float(reward.undecided) for reward in rewards],
            "refusal": [float(value < 0) for r in rewards if (value := r.components.get("not_refusal")) is not None],
            "second": [] if second is None else list(second),
        }
        for name, each in values.items():
            kept = (self._sums.get(name, []) + each)[-self.window :]
            self._sums[name] = kept
            if len(kept) >= self.window and name not in self._first:
                self._first[name] = sum(kept) / len(kept)

    def report(self) -> dict[str, float]:
        """The means of the last answers, and their change since the first `window` of them."""
        found = {name: sum(values) / len(values) for name, values in self._sums.items() if values}
        drift = {f"{name}_drift": found[name] - first for name, first in self._first.items() if name in found}
        if {"reward_drift", "second_drift"} <= drift.keys():
            drift["second_gap"] = drift["reward_drift"] - drift["second_drift"]
        return found | drift
