"""What a scorer says about rows, as arrays: pairs of answers, and groups of several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from guard.errors import DataError
from guard.reward.row import RewardRow, digest
from guard.reward.scorer import Scorer
from guard.verdict import sigmoid

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairResults:
    """Of each pair: `difference`, the raw log-odds or score by which the chosen answer leads; `p`, the calibrated
    probability that it is better; `lead`, by how many characters it is longer; scores of both sides, NaN for a pairwise
    system; `first` and `second`, the log-odds in each order, equal for a system without an order."""

    names: list[str]
    subsets: list[str]
    difference: Floats
    p: Floats
    lead: Floats
    chosen: Floats
    rejected: Floats
    first: Floats
    second: Floats
    mass: Floats
    coverage: Floats
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class GroupResults:
    """One prompt with several answers: their scores, and whether each is among the best."""

    name: str
    subset: str
    scores: tuple[float, ...]
    best: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that a scorer said about a set of rows."""

    pairs: PairResults
    groups: list[GroupResults] = field(default_factory=list)


def unseen(rows: Sequence[RewardRow], *scorers: Scorer) -> list[RewardRow]:
    """The rows whose prompts none of the scorers learnt from. DataError if there are none: nothing can be measured."""
    learnt = frozenset[str]().union(*(scorer.learnt for scorer in scorers))
    found = [row for row in rows if row.prompt_key not in learnt]
    if rows and not found:
        raise DataError(
            f"the prompts of all {len(rows)} rows are among those that the model learnt from, so that nothing can be "
            "measured by them; give rows with other prompts"
        )
    return found


def run(scorer: Scorer, rows: Sequence[RewardRow]) -> Results:
    """The results on rows with pairs or rankings. DataError if there are neither."""
    pairs = [row for row in rows if row.chosen is not None and row.rejected is not None]
    rankings = [row for row in rows if row.rank]
    if not pairs and not rankings:
        raise DataError("no row has `chosen` and `rejected`, or `responses` and `rank`; convert rows with --to pairs")
    return Results(score_pairs(scorer, pairs), score_groups(scorer, rankings))


def score_pairs(scorer: Scorer, rows: Sequence[RewardRow]) -> PairResults:
    started = time.perf_counter()
    nothing = np.full(len(rows), np.nan)
    if scorer.reader.pairwise:
        orders = scorer.reader.pairs([(row.prompt, row.chosen or "", row.rejected or "") for row in rows])
        a, b = [both[0] for both in orders], [both[1] for both in orders]
        first, second = _array(r.z for r in a), _array(r.z for r in b)
        chosen, rejected = nothing, nothing
        p = _array(
            (scorer.calibration.preference(x) + scorer.calibration.preference(y)) / 2
            for x, y in zip(first, second, strict=True)
        )
    else:
        a = scorer.reader.singles([(row.prompt, row.chosen or "") for row in rows])
        b = scorer.reader.singles([(row.prompt, row.rejected or "") for row in rows])
        chosen, rejected = _array(r.z for r in a), _array(r.z for r in b)
        first = second = chosen - rejected
        p = _array(scorer.calibration.preference(z) for z in first)
    seconds = time.perf_counter() - started
    return PairResults(
        [row.id for row in rows],
        [row.subset for row in rows],
        (first + second) / 2,
        p,
        _array(len(row.chosen or "") - len(row.rejected or "") for row in rows),
        chosen,
        rejected,
        first,
        second,
        np.minimum(_array(r.mass for r in a), _array(r.mass for r in b)),
        np.minimum(_array(r.coverage for r in a), _array(r.coverage for r in b)),
        seconds,
    )


def score_groups(scorer: Scorer, rows: Sequence[RewardRow]) -> list[GroupResults]:
    """By absolute scores, or in tournaments where a system can only compare; all rows at once."""
    if scorer.reader.pairwise:
        scores = scorer.tournaments([(row.prompt, row.responses) for row in rows])
    else:
        readings = iter(scorer.reader.singles([(row.prompt, text) for row in rows for text in row.responses]))
        scores = [[next(readings).z for _ in row.responses] for row in rows]
    return [
        GroupResults(row.id, row.subset, tuple(each), tuple(rank == min(row.rank) for rank in row.rank))
        for row, each in zip(rows, scores, strict=True)
    ]


def repeat_seeds(times: int) -> list[int]:
    """A seed for each repetition, the same in every evaluation."""
    return [int(digest(["repeat", number])[:8], 16) for number in range(times)]


def repeat_spread(scorer: Scorer, rows: Sequence[RewardRow], seeds: Sequence[int]) -> tuple[float, float]:
    """(standard deviation of p over repetitions, share of pairs that change sides), each asked anew with a seed of its
    own; pass no cache."""
    runs = [score_pairs(scorer.seeded(seed), rows).p for seed in seeds]
    stacked = np.stack(runs)
    flips = (stacked > 0.5).any(0) & (stacked < 0.5).any(0)
    return float(stacked.std(0).mean()), float(flips.mean())


def mean_absolute(values: Floats) -> dict[str, float]:
    """Mean, median, mean without the lowest and highest tenth, and median absolute deviation."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return {}
    cut = len(known) // 10
    middle = float(np.median(known))
    return {
        "mean": float(known.mean()),
        "median": middle,
        "trimmed": float(known[cut : len(known) - cut].mean()),
        "mad": float(np.median(np.abs(known - middle))),
    }


def calibrated(scorer: Scorer, scores: Floats) -> float | None:
    """The mean calibrated probability of raw scores."""
    known = scores[~np.isnan(scores)].tolist()
    return statistics.fmean(sigmoid(scorer.calibration.log_odds(z)) for z in known) if known else None


def _array(values: object) -> Floats:
    return np.array(list(values), dtype=np.float64)  # type: ignore[call-overload]
