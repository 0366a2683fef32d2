"""The values of reward models: readings before calibration, scores of answers, and comparisons of two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from guard.conversation import Message
from guard.verdict import sigmoid

Messages = tuple[Message, ...]
Asked = tuple[Messages, str]  # a prompt and an answer
Compared = tuple[Messages, str, str]  # a prompt and two answers
CLIP = 8.0  # of log-odds: bounded, but not saturated as a probability would be


@dataclass(frozen=True, slots=True, repr=False)
class Reading:
    """What a model says before calibration: log-odds, or the number of a scalar head.

    mass: the probability of the words that decide; low where the prompt is not the one that the model was trained on.
    coverage: the share of the texts that it read. rationale: what it wrote first. attributes: by name.
    """

    z: float
    mass: float = 1.0
    coverage: float = 1.0
    rationale: str = ""
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class RewardScore:
    """reward: calibrated log-odds within ±CLIP, for RL. p: the same as a probability, not clipped."""

    reward: float
    p: float
    raw: float
    mass: float = 1.0
    coverage: float = 1.0
    rationale: str = ""
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """p: that the first answer is better, the mean of both orders. gap: by how much p depends on the order."""

    p: float
    gap: float = 0.0
    mass: float = 1.0
    coverage: float = 1.0
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class RewardCalibration:
    """p = sigmoid(slope · z + bias); of two answers sigmoid(slope · Δz), or of a pairwise z sigmoid(slope · z).

    Fitted to `rows` held-out rows, 0 if none were held out, with this negative log-likelihood and expected calibration
    error. anchors: the raw scores of anchor texts at that time.
    """

    slope: float = 1.0
    bias: float = 0.0
    rows: int = 0
    nll: float | None = None
    ece: float | None = None
    anchors: tuple[float, ...] = ()

    def log_odds(self, z: float) -> float:
        return self.slope * z + self.bias

    def preference(self, difference: float) -> float:
        return sigmoid(self.slope * difference)


class Reader(Protocol):
    """A reward model without its calibration."""

    @property
    def pairwise(self) -> bool:
        """Whether it can only compare."""

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        """The reading of each answer, in order."""

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        """How much better each first answer is than the second, shown first and shown second."""

    def seeded(self, seed: int) -> Self:
        """The same model with another seed for what it samples; itself, if it samples nothing."""


def clipped(value: float, most: float = CLIP) -> float:
    return max(-most, min(most, value)) if not math.isnan(value) else -most
