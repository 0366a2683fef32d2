"""95 % bootstrap intervals of metrics: all metrics of a kind share the resamples, and scores are sorted once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from guard.metrics import classification
from guard.metrics.classification import Bools, Confusion, Floats

RATES = ("f1", "fpr", "recall")
RANKINGS = ("auprc", "auroc")
_QUANTILES = (0.025, 0.975)
Intervals = dict[str, tuple[float, float] | None]  # by metric, None where it is undefined


def of_rates(labels: Bools, flagged: Bools, rounds: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of F1, false-positive rate and recall; resamples in which a metric is undefined are left out of its."""
    at = classification.confusion(labels, flagged.astype(np.float64), 0.5)
    cells = 2 * labels.astype(int) + flagged.astype(int)
    random = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in RATES if getattr(at, name) is not None}
    for _ in range(rounds if values else 0):
        tn, fp, fn, tp = map(int, np.bincount(cells[random.integers(0, len(cells), len(cells))], minlength=4))
        sample = Confusion(tp, fp, tn, fn)
        for name, of_metric in values.items():
            if (value := getattr(sample, name)) is not None:
                of_metric.append(value)
    return {name: _interval(values.get(name, [])) for name in RATES}


def of_rankings(labels: Bools, scores: Floats, rounds: int = 1000, seed: int = 0) -> Intervals:
    """Intervals of AUPRC and AUROC: the scores are sorted once, and each resample is a vector of weights."""
    if labels.all() or not labels.any():
        return dict.fromkeys(RANKINGS)
    order = np.argsort(-scores, kind="stable")
    last = classification.last_of_ties(scores[order])
    unsafe = labels[order].astype(np.float64)
    random = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = np.bincount(random.integers(0, len(labels), len(labels)), minlength=len(labels))[order]
        tp = np.cumsum(drawn * unsafe)[last]
        fp = np.cumsum(drawn)[last] - tp
        if tp[-1] and fp[-1]:
            values.append((classification.average_precision(tp, fp), classification.roc_area(tp, fp)))
    return {name: _interval([value[index] for value in values]) for index, name in enumerate(RANKINGS)}


def wilson(right: int, rows: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of so many rows (Wilson 1927); (0, 1) of none."""
    if not rows:
        return 0.0, 1.0
    p, scale = right / rows, 1 + z * z / rows
    middle = (p + z * z / (2 * rows)) / scale
    half = z * (p * (1 - p) / rows + z * z / (4 * rows * rows)) ** 0.5 / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.quantile(values, _QUANTILES)
    return float(low), float(high)
