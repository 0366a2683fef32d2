"""Candidates, the answers that are to be rewarded, and their rewards: named components and a weighted sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from guard.conversation import Conversation, Message
from guard.errors import GuardError, InvalidInput
from guard.reward.score import Comparison, Messages, RewardScore
from guard.reward.scorer import Prompt, messages_of
from guard.serve.core.request import Options
from guard.serve.limits import Limits, oversize


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """An answer to a prompt. Raises InvalidInput for a prompt without a message.

    reference: an answer to beat, which reward models that only compare need. refusable: whether refusing is right, as
    it is for a harmful prompt.
    """

    prompt: Messages
    response: str
    reference: str | None = None
    refusable: bool = False

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InvalidInput("a prompt needs at least one message")
        for name in ("response", "reference"):  # lone surrogates are read as in a message
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, Message("assistant", text).content)

    @classmethod
    def of(cls, prompt: Prompt, response: str, reference: str | None = None, refusable: bool = False) -> Candidate:
        """prompt: a text, which is the user's, or messages in OpenAI's format."""
        return cls(messages_of(prompt), response, reference, refusable)

    @property
    def empty(self) -> bool:
        return not self.response.strip()

    @property
    def conversation(self) -> Conversation:
        """What a guard judges. Raises InvalidInput for an empty answer."""
        return Conversation((*self.prompt, Message("assistant", self.response)))


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """Candidates to score under the same options; an error stands for an invalid one, and is its answer.

    components: their names; none: all. options: what the guard judges by. seconds: how long the caller waits.
    """

    candidates: tuple[Candidate | InvalidInput, ...] = field(repr=False)
    components: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Which of two answers to a prompt is better, by this component; None: the first reward model, else the guard."""

    first: Candidate = field(repr=False)
    second: str = field(repr=False)
    component: str | None = None
    options: Options = field(default_factory=Options)
    seconds: float = math.inf


@dataclass(frozen=True, slots=True, repr=False)
class Component:
    """score: None where it does not apply, or could not be computed. model: the digest of what scored, if it did."""

    score: RewardScore | None
    weight: float
    model: str = ""

    @property
    def reward(self) -> float | None:
        """Log-odds within ±CLIP (guard.reward.score)."""
        return None if self.score is None else self.score.reward

    def __repr__(self) -> str:  # a score has what the model wrote
        return f"Component(reward={self.reward}, weight={self.weight}, model={self.model[:12]!r})"


@dataclass(frozen=True, slots=True)
class CandidateReward:
    """The components by name, and their sum by weight.

    error: why a component could not be computed. `total` is then the lowest reward, -CLIP times the sum of the absolute
    weights, so that nothing is gained by an answer that breaks its judge.
    """

    total: float
    components: Mapping[str, Component]
    error: GuardError | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Of two answers, by a component, whose model has this digest."""

    comparison: Comparison
    component: str
    model: str


def oversized(candidate: Candidate, limits: Limits) -> InvalidInput | None:
    """The error of a candidate that exceeds the limits, else None."""
    if candidate.empty:
        return None
    if (error := oversize(candidate.conversation, limits)) is not None:
        return error
    characters, most = len(candidate.reference or ""), limits.conversation_characters
    return InvalidInput(f"reference has {characters} characters, must be <= {most}") if characters > most else None
