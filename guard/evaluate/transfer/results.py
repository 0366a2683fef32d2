"""The numbers of a transfer evaluation: of each fold, and of each contestant over all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from guard.metrics.classification import Bools, Floats, auprc, auroc, curves


def fold_metrics(labels: Bools, odds: Floats, recall: float) -> dict[str, float]:
    """AUPRC, AUROC, and the false-positive rate at the highest threshold with at least this recall."""
    area, rank = auprc(labels, odds), auroc(labels, odds)
    points = curves(labels, odds)
    if area is None or rank is None or points is None:
        raise ValueError("a fold needs rows of both labels")
    at = int(np.argmax(points.recall >= recall))
    return {"auprc": area, "auroc": rank, "fpr_at_recall": float(points.fpr[at])}


def mean_log_odds(each: Sequence[Floats]) -> Floats:
    """The ensemble: the mean of its members' log-odds, each standardised over the rows so that no scale prevails."""
    return np.asarray(np.mean([(odds - odds.mean()) / (odds.std() or 1.0) for odds in each], axis=0))


def summary(by_fold: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """For each contestant the mean and worst AUPRC, and the mean and worst false-positive rate, over its folds."""
    contestants = dict.fromkeys(name for fold in by_fold.values() for name in fold)
    result: dict[str, dict[str, Any]] = {}
    for name in contestants:
        folds = [fold[name] for fold in by_fold.values() if name in fold]
        areas, rates = [fold["auprc"] for fold in folds], [fold["fpr_at_recall"] for fold in folds]
        result[name] = {
            "folds": len(folds),
            "mean_auprc": float(np.mean(areas)),
            "worst_auprc": min(areas),
            "mean_fpr_at_recall": float(np.mean(rates)),
            "worst_fpr_at_recall": max(rates),
        }
    return result
