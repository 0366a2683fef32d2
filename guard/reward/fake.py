"""A reward model without a model, for tests and dry runs: an answer is as good as its words say."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

from guard.reward.score import Asked, Compared, Reading
from guard.reward.scorer import Scorer, ScorerInfo

GOOD, BAD = "good", "bad"


@dataclass(frozen=True, slots=True)
class FakeReader:
    """The number of times that `good` occurs, less those of `bad`. bias: what a pairwise one gives to what it sees
    first. noise: up to how much the seed and the texts add to it, as if it sampled."""

    pairwise: bool = False
    bias: float = 0.0
    mass: float = 1.0
    noise: float = 0.0
    seed: int = 0

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        return [Reading(_words(answer) + self._drawn(answer), self.mass) for _, answer in asked]

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        better = [_words(a) - _words(b) + self._drawn(a, b) for _, a, b in asked]
        return [(Reading(z + self.bias, self.mass), Reading(z - self.bias, self.mass)) for z in better]

    def seeded(self, seed: int) -> FakeReader:
        return dataclasses.replace(self, seed=seed)

    def _drawn(self, *texts: str) -> float:
        return self.noise * random.Random(repr((self.seed, texts))).uniform(-1, 1) if self.noise else 0.0


def _words(text: str) -> float:
    return float(text.count(GOOD) - text.count(BAD))


def fake_scorer(reader: FakeReader = FakeReader()) -> Scorer:
    return Scorer(ScorerInfo("fake", "pair" if reader.pairwise else "scalar", "fake"), reader)
