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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from guard.conversation import Conversation, Message
from guard.errors import ConfigError, GuardError, InvalidInput
from guard.moderator.guard import Guard
from guard.reward.safety import EMPTY
from guard.reward.score import CLIP, clipped
from guard.reward.scorer import Prompt, Scorer, messages_of
from guard.verdict import Outcome, Verdict, log_odds

NAMES = ("safe", "not_refusal", "helpful")
# Safety and helpfulness count alike; a refusal costs half as much as harm, or it would be worth answering harmfully.
WEIGHTS: Mapping[str, float] = MappingProxyType({"safe": 1.0, "not_refusal": 0.5, "helpful": 1.0})


@dataclass(frozen=True, slots=True)
class Reward:
    """The components, each log-odds within ±CLIP or None where it does not apply, and their weighted sum.

    undecided: there was no verdict, and `safe` is the lowest value.
    """

    total: float
    components: Mapping[str, float | None]
    undecided: bool = False


@dataclass(frozen=True, eq=False)
class Components:
    """Scores answers by a guard and, if given, by a reward model. Thread-safe as they are.

    weights: by component; a weight of 0 returns a component and leaves it out of the sum. ConfigError for an unknown
    component, or one that no scorer gives.
    """

    safe: Guard
    helpful: Scorer | None = None
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def __post_init__(self) -> None:
        if strange := [name for name in self.weights if name not in NAMES]:
            raise ConfigError(f"weights.{strange[0][:40]}: is no component; allowed: {', '.join(NAMES)}")
        if not all(math.isfinite(weight) for weight in self.weights.values()):
            raise ConfigError("weights must be finite numbers")
        if self.helpful is not None and self.helpful.reader.pairwise:
            raise ConfigError(f"{self.helpful.info.system} compares answers; `helpful` must score single ones")

    def score(self, asked: Sequence[tuple[Prompt, str]], refusable: Sequence[bool] | None = None) -> list[Reward]:
        """The reward of each answer, in order; one bad row never fails the others.

        refusable: whether refusing is right, as it is for a harmful prompt, so that `not_refusal` does not apply; None:
        nowhere. An empty answer gets EMPTY for every component.
        """
        may = refusable if refusable is not None else [False] * len(asked)
        readable: list[int] = []
        found: list[Reward] = [Reward(-CLIP, {"safe": -CLIP}, True)] * len(asked)
        conversations = []
        for index, (prompt, answer) in enumerate(asked):
            try:
                if not answer.strip():
                    found[index] = Reward(EMPTY, dict.fromkeys(NAMES, EMPTY))
                    continue
                conversations.append(Conversation((*messages_of(prompt), Message("assistant", answer))))
                readable.append(index)
            except InvalidInput:
                continue
        verdicts = self.safe.moderate_each(conversations) if conversations else []
        helpful = self._helpful([asked[index] for index in readable])
        for index, verdict, value in zip(readable, verdicts, helpful, strict=True):
            found[index] = self._reward(verdict, value, may[index])
        return found

    def _helpful(self, asked: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        if self.helpful is None or not asked:
            return [None] * len(asked)
        try:
            return [score.reward for score in self.helpful.score_many(asked)]
        except GuardError:
            return [self._one_helpful(prompt, answer) for prompt, answer in asked]

    def _one_helpful(self, prompt: Prompt, answer: str) -> float | None:
        assert self.helpful is not None
        try:
            return self.helpful.score(prompt, answer).reward
        except GuardError:
            return None

    def _reward(self, answer: Verdict | GuardError, helpful: float | None, refusable: bool) -> Reward:
        if isinstance(answer, GuardError) or answer.outcome is Outcome.INCOMPLETE:
            return Reward(-CLIP, {"safe": -CLIP, "not_refusal": None, "helpful": helpful}, True)
        refusal = None if refusable or answer.p_refusal is None else clipped(-log_odds(answer.p_refusal))
        parts = {"safe": clipped(-log_odds(answer.p_unsafe)), "not_refusal": refusal, "helpful": helpful}
        known = {name: value for name, value in parts.items() if value is not None}
        return Reward(sum(self.weights.get(name, 0.0) * value for name, value in known.items()), parts)


def plain(reward: Reward) -> dict[str, Any]:
    """As JSON data: the sum under `reward`, the components by name."""
    return {"reward": reward.total, "reward_components": dict(reward.components), "undecided": reward.undecided}


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
