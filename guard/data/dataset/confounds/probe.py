"""The probe: a classifier that measures how well confound values alone predict the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from guard.data.build.columns import Bools, Floats, Ints
from guard.errors import need

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """The weighted scores of the probe on rows of clusters that it has not seen.

    auroc: 0.5 if the values say nothing about the label, 1 if they determine it. balanced_accuracy: 0.5 for a constant
    guess. Values below 0.5 mean the same as 0.5: where mixing balances the whole, a fold leans the other way than the
    rest, on which the probe was fitted.
    """

    auroc: float
    balanced_accuracy: float


def folds(clusters: Ints) -> Ints:
    """[rows]: the fold of each row, with whole clusters in one fold; fewer than FOLDS if there are fewer clusters."""
    groups = len(np.unique(clusters))
    if groups < 2:
        return np.zeros(len(clusters), np.int64)
    split = need("sklearn.model_selection", "data").GroupKFold(min(FOLDS, groups)).split
    fold = np.zeros(len(clusters), np.int64)
    for number, (_, test) in enumerate(split(np.empty((len(clusters), 1)), groups=clusters)):
        fold[test] = number
    return fold


def probe(values: Ints, unsafe: Bools, weights: Floats, fold: Ints) -> Probe | None:
    """Cross-validated logistic regression over one-hot `values` [rows, confounds]; None if no fold can be scored.

    It is fitted with both labels at equal total weight, so that the share of a label gives no advantage. Folds are
    averaged by weight; a fold is scored if it and the others hold both labels.
    """
    preprocessing, threads = need("sklearn.preprocessing", "data"), need("threadpoolctl", "data")
    # Rows of equal values are merged into one weighted row: the same fit in a fraction of the time.
    distinct, cell = np.unique(values, axis=0, return_inverse=True)
    cell = cell.ravel() * 2 + unsafe
    inputs = preprocessing.OneHotEncoder(dtype=np.float64).fit_transform(distinct)
    scored: list[tuple[float, float, float]] = []
    with threads.threadpool_limits(1):  # problems this small take longer on many threads
        for number in range(int(fold.max(initial=0)) + 1):
            in_fold = fold == number
            test, train = (_by_label(cell[rows], weights[rows], len(distinct)) for rows in (in_fold, ~in_fold))
            if min(test.sum(axis=0).min(), train.sum(axis=0).min()) > 0:
                scores = _fit(inputs, train)
                scored.append((_auroc(scores, test), _balanced_accuracy(scores, test), float(test.sum())))
    if not scored:
        return None
    auroc, accuracy = np.average([fold[:2] for fold in scored], axis=0, weights=[fold[2] for fold in scored])
    return Probe(float(auroc), float(accuracy))


def _by_label(cell: Ints, weights: Floats, distinct: int) -> Floats:
    """[distinct, 2]: weight of the safe and of the unsafe rows."""
    return np.bincount(cell, weights, minlength=2 * distinct).reshape(-1, 2).astype(np.float64)


def _fit(inputs: Any, cells: Floats) -> Floats:
    """The decision function of each of `inputs`, fitted to the weights of its safe and unsafe rows."""
    sparse, linear = need("scipy.sparse", "data"), need("sklearn.linear_model", "data")
    balanced = cells * (cells.sum() / (2 * cells.sum(axis=0)))
    labels = np.repeat([False, True], len(cells))
    model = linear.LogisticRegression(max_iter=1000)
    model.fit(sparse.vstack([inputs, inputs]), labels, sample_weight=balanced.T.ravel())
    scores: Floats = model.decision_function(inputs)
    return scores


def _auroc(scores: Floats, cells: Floats) -> float:
    """The weighted probability that an unsafe row scores above a safe one; ties count one half."""
    distinct, group = np.unique(scores, return_inverse=True)
    safe, unsafe = (np.bincount(group, weights, minlength=len(distinct)) for weights in cells.T)
    below = np.cumsum(safe) - safe
    return float(unsafe @ (below + safe / 2) / (safe.sum() * unsafe.sum()))


def _balanced_accuracy(scores: Floats, cells: Floats) -> float:
    safe, unsafe = cells.T
    return float(safe[scores < 0].sum() / safe.sum() + unsafe[scores >= 0].sum() / unsafe.sum()) / 2
