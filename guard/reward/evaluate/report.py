"""The report on a scorer, on two of them, and on the checkpoints of a run, as plain data without texts of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from guard.metrics.classification import ece
from guard.metrics.intervals import wilson
from guard.reward.evaluate import rewardbench
from guard.reward.evaluate.results import Floats, PairResults, Results, calibrated, mean_absolute
from guard.reward.scorer import Scorer

ROUNDS = 2000
ALPHA = (0.025, 0.975)


def report(scorer: Scorer, results: Results) -> dict[str, Any]:
    """The numbers of one scorer. Keys are left out where nothing can be said."""
    pairs = results.pairs
    found: dict[str, Any] = {
        "system": scorer.info.system,
        "rule": scorer.info.rule,
        "fingerprint": scorer.info.fingerprint,
    }
    if len(pairs):
        found |= _of_pairs(scorer, pairs)
    if results.groups:
        plain = [group for group in results.groups if group.subset != rewardbench.TIES]
        found["best_of"] = rewardbench.best_of(plain)
        found["ties"] = rewardbench.ties([group for group in results.groups if group.subset == rewardbench.TIES])
    return {key: value for key, value in found.items() if value not in (None, {}, [])}


def _of_pairs(scorer: Scorer, pairs: PairResults) -> dict[str, Any]:
    generative = scorer.reader.pairwise
    points = {rule: rewardbench.points(pairs.difference.tolist(), tie) for rule, tie in rewardbench.TIE_RULES.items()}
    own = points["generative" if generative else "scalar"]
    subsets = {name: [at for at, each in enumerate(pairs.subsets) if each == name] for name in sorted({*pairs.subsets})}
    by_subset = {name: _accuracy([own[at] for at in places]) for name, places in subsets.items() if name}
    return {
        "pairs": len(pairs),
        "accuracy": _accuracy(own),
        "accuracy_by_tie_rule": {rule: float(np.mean(each)) for rule, each in points.items()},
        "by_subset": by_subset,
        "sections": rewardbench.sections({name: each["value"] for name, each in by_subset.items()}),
        "win_probability": float(pairs.p.mean()),
        "nll": float(-np.log(np.clip(pairs.p, 1e-12, 1)).mean()),
        "ece": ece(np.repeat([True, False], len(pairs)), np.concatenate([pairs.p, 1 - pairs.p])),
        "chosen": _absolute(scorer, pairs.chosen),
        "rejected": _absolute(scorer, pairs.rejected),
        "length": length_bias(pairs, own),
        "position": position(pairs) if generative else None,
        "label_mass": float(pairs.mass.mean()),
        "coverage": float(pairs.coverage.mean()),
        "ms_per_pair": 1000 * pairs.seconds / len(pairs),
    }


def _absolute(scorer: Scorer, scores: Floats) -> dict[str, float] | None:
    told = mean_absolute(scores)
    p = calibrated(scorer, scores)
    return {**told, "p": p} if p is not None else None


def _accuracy(points: Sequence[float]) -> dict[str, Any]:
    low, high = wilson(round(sum(points)), len(points))
    return {"value": float(np.mean(points)), "interval": [low, high], "rows": len(points)}


def length_bias(pairs: PairResults, points: Sequence[float]) -> dict[str, Any]:
    """Whether longer answers win: the rank correlation of both leads, the accuracy where the better answer is longer
    and where it is shorter, and the accuracy of always preferring the longer one."""
    right, lead = np.asarray(points), pairs.lead
    found: dict[str, Any] = {"spearman": spearman(pairs.difference, lead)}
    for name, rows in (("longer_is_better", lead > 0), ("shorter_is_better", lead < 0)):
        found[name] = float(right[rows].mean()) if rows.any() else None
    found["longest_wins"] = float(np.mean(np.where(lead == 0, 0.5, lead > 0)))
    return found


def position(pairs: PairResults) -> dict[str, float]:
    """Of a pairwise system: how often both orders agree, how often it prefers what it sees first, and by how much p
    depends on the order."""
    p, q = 1 / (1 + np.exp(-pairs.first)), 1 / (1 + np.exp(-pairs.second))
    first_wins = np.concatenate([p > 0.5, q < 0.5])
    return {
        "consistent": float(((p > 0.5) == (q > 0.5)).mean()),
        "prefers_first": float(first_wins.mean()),
        "gap": float(np.abs(p - q).mean()),
    }


def spearman(a: Floats, b: Floats) -> float | None:
    """The rank correlation, ties at their mean rank; None where one of them is constant."""
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: Floats = ends - (counts - 1) / 2
    return middle[inverse]


# -- several ----------------------------------------------------------------------------------------------------------


def against(first: PairResults, second: PairResults, seed: int = 0) -> dict[str, Any]:
    """By how much the first scorer is more accurate on the same pairs, with a paired bootstrap interval, and how often
    the two prefer the same answer."""
    a, b = (np.where(each.difference == 0, 0.5, each.difference > 0) for each in (first, second))
    low, high = _paired(a - b, seed)
    return {"difference": float((a - b).mean()), "interval": [low, high], "agreement": float((a == b).mean())}


def track(runs: Mapping[str, PairResults], seed: int = 0) -> list[dict[str, Any]]:
    """The checkpoints of a run in order: the most accurate is marked `best`, and every later one that is less accurate
    than the best before it, beyond chance, `DEGRADED`."""
    rows: list[dict[str, Any]] = []
    right = {name: np.where(run.difference == 0, 0.5, run.difference > 0) for name, run in runs.items()}
    top = max(right, key=lambda name: right[name].mean(), default=None)
    best_so_far: Floats | None = None
    for name, points in right.items():
        mark = "best" if name == top else ""
        if best_so_far is not None:
            _, high = _paired(points - best_so_far, seed)
            mark = mark or ("DEGRADED" if high < 0 else "")
        if best_so_far is None or points.mean() > best_so_far.mean():
            best_so_far = points
        low, high = wilson(round(float(points.sum())), len(points))
        lead = spearman(runs[name].difference, runs[name].lead)
        row = {"checkpoint": name, "accuracy": float(points.mean()), "interval": [low, high], "length_bias": lead}
        rows.append({**row, "win_probability": float(runs[name].p.mean()), "mark": mark})
    return rows


def _paired(differences: Floats, seed: int) -> tuple[float, float]:
    if not len(differences):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (ROUNDS, len(differences)))
    low, high = np.quantile(differences[drawn].mean(1), ALPHA)
    return float(low), float(high)
