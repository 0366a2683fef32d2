"""Scorers that were not trained for it: a guard's verdict, and the length of an answer, which a reward should beat."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guard.conversation import Conversation, Message
from guard.errors import DISTRIBUTION, GuardError
from guard.moderator.guard import Guard, GuardInfo
from guard.reward.score import Asked, Compared, Reading
from guard.reward.scorer import Scorer, ScorerInfo
from guard.verdict import Verdict, log_odds


@dataclass(frozen=True, slots=True)
class LengthReader:
    """The longer answer is better; a score is a thousandth of a character."""

    pairwise: bool = False

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        return [Reading(len(answer) / 1000) for _, answer in asked]

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        raise NotImplementedError("a scalar model has no order of answers")

    def seeded(self, seed: int) -> LengthReader:
        return self


@dataclass(frozen=True, eq=False)
class GuardReader:
    """The log-odds that a guard holds an answer safe."""

    guard: Guard
    pairwise: bool = False

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        """GuardError of the first answer that has no verdict."""
        conversations = [Conversation((*prompt, Message("assistant", answer))) for prompt, answer in asked]
        return [_reading(answer) for answer in self.guard.moderate_each(conversations)]

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        raise NotImplementedError("a guard has no order of answers")

    def seeded(self, seed: int) -> GuardReader:
        return self


def _reading(answer: Verdict | GuardError) -> Reading:
    if isinstance(answer, GuardError):
        raise answer
    coverage = answer.coverage.tokens_seen / max(1, answer.coverage.tokens_total)
    refusal = {} if answer.p_refusal is None else {"refusal": answer.p_refusal}
    return Reading(-log_odds(answer.p_unsafe), 1.0, coverage, "", refusal)


def length_scorer() -> Scorer:
    return Scorer(ScorerInfo("length", "scalar", "length"), LengthReader())


def guard_scorer(
    model: str | Path | None = None, server: str | None = None, policy: str | Path | None = None
) -> Scorer:
    """A guard as a scorer: a bundle (None: the shipped one), or a running service."""
    from guard.serve.client import open_guard

    guard = open_guard(model, server, policy)
    return Scorer(ScorerInfo("guard", "token", f"guard/{guard_digest(guard.info)}"), GuardReader(guard))


def guard_digest(info: GuardInfo) -> str:
    """What a guard's probabilities depend on: its model, its policy, and the version that reads texts."""
    return f"{info.model}/{info.policy.digest}/{importlib.metadata.version(DISTRIBUTION)}"
