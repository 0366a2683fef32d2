"""A greedy black-box search for a suffix of harmless words with which a guard misses a text.

Each text has one suffix. In a round, several candidates with one more word (or, once the suffix is long, with one word
replaced) are scored, and the best replaces the suffix if its score is lower. The rounds of all texts run together, so
that a guard gets large batches; the result of a text does not depend on the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guard.evaluate.redteam.attacks import with_suffix

WIDTH = 16  # candidates per text and round
LONGEST = 24  # words or phrases of a suffix


@dataclass(frozen=True, slots=True, repr=False)
class Start:
    """The start of a search: a text, its score without a suffix, and the score below which the search stops."""

    text: str
    score: float
    goal: float
    seed: str


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """The best suffix of a text, its score, and the number of queries."""

    suffix: tuple[str, ...]
    score: float
    queries: int


def search(
    starts: Sequence[Start],
    words: Sequence[str],
    budget: int,
    scores: Callable[[Sequence[tuple[int, str]]], Sequence[float]],
) -> list[Found]:
    """The best suffix for each start, with at most `budget` queries each.

    scores: maps (index of a start, text) pairs to scores; NaN if there is none, which is never better.
    """
    states = [Found((), start.score, 0) for start in starts]
    generators = [random.Random(start.seed) for start in starts]
    while active := [
        index
        for index, (start, state) in enumerate(zip(starts, states, strict=True))
        if not state.score < start.goal and state.queries < budget
    ]:
        candidates = [
            (index, suffix)
            for index in active
            for suffix in _candidates(
                states[index].suffix, words, min(WIDTH, budget - states[index].queries), generators[index]
            )
        ]
        scored = scores([(index, with_suffix(starts[index].text, suffix)) for index, suffix in candidates])
        for (index, suffix), score in zip(candidates, scored, strict=True):
            state = states[index]
            better = score < state.score
            states[index] = Found(
                suffix if better else state.suffix, score if better else state.score, state.queries + 1
            )
    return states


def _candidates(suffix: tuple[str, ...], words: Sequence[str], count: int, rng: random.Random) -> list[tuple[str, ...]]:
    """At most `count` suffixes that differ from `suffix` in one word, all at the same position."""
    at = len(suffix) if len(suffix) < LONGEST else rng.randrange(LONGEST)
    chosen = rng.sample(words, min(count, len(words)))
    return [(*suffix[:at], word, *suffix[at + 1 :]) for word in chosen]
