"""A greedy search for harmless words after a text that make a guard miss it. It sees the guard's scores only.

Every text keeps one suffix. In a round it proposes several with one word more (or, once the suffix is long, with one
word changed), and the one with the lowest score replaces it if that is lower. The texts go through their rounds
together, so that a guard gets large batches; none depends on which others are searched with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guard.evaluate.redteam.attacks import with_suffix

WIDTH = 16  # proposals of a text in a round
LONGEST = 24  # words or phrases of a suffix


@dataclass(frozen=True, slots=True, repr=False)
class Start:
    """A text to search for: its score without a suffix, and the score below which the search ends."""

    text: str
    score: float
    goal: float
    seed: str


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """The best suffix of a text, its score, and how often the guard was asked."""

    suffix: tuple[str, ...]
    score: float
    queries: int


def search(
    starts: Sequence[Start],
    words: Sequence[str],
    budget: int,
    scores: Callable[[Sequence[tuple[int, str]]], Sequence[float]],
) -> list[Found]:
    """The best suffix for each start with at most `budget` queries each.

    scores: of pairs of a start's number and a text; NaN where the guard cannot tell, which is never better.
    """
    states = [Found((), start.score, 0) for start in starts]
    generators = [random.Random(start.seed) for start in starts]
    while active := [
        index
        for index, (start, state) in enumerate(zip(starts, states, strict=True))
        if not state.score < start.goal and state.queries < budget
    ]:
        proposals = [
            (index, suffix)
            for index in active
            for suffix in _proposals(
                states[index].suffix, words, min(WIDTH, budget - states[index].queries), generators[index]
            )
        ]
        found = scores([(index, with_suffix(starts[index].text, suffix)) for index, suffix in proposals])
        for (index, suffix), score in zip(proposals, found, strict=True):
            state = states[index]
            better = score < state.score
            states[index] = Found(
                suffix if better else state.suffix, score if better else state.score, state.queries + 1
            )
    return states


def _proposals(suffix: tuple[str, ...], words: Sequence[str], count: int, rng: random.Random) -> list[tuple[str, ...]]:
    """At most `count` suffixes that differ from `suffix` in one word, all at the same place."""
    at = len(suffix) if len(suffix) < LONGEST else rng.randrange(LONGEST)
    chosen = rng.sample(words, min(count, len(words)))
    return [(*suffix[:at], word, *suffix[at + 1 :]) for word in chosen]
