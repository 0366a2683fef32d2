"""The classifier probe: how well a bag of confound values alone predicts the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from guard.data.build.columns import Bools, Floats, Ints
from guard.errors import need

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probe reaches on rows of clusters that it has not seen, all counted by weight.

    auroc: 0.5 where the values tell nothing, 1 where they tell all. balanced_accuracy: 0.5 is what always guessing one
    label reaches. Below 0.5 is nothing, too: where mixing has balanced the whole, a fold leans the other way than the
    rest, from which the probe learnt.
    """

    auroc: float
    balanced_accuracy: float


def folds(clusters: Ints) -> Ints:
    """[rows]: the fold of each row, whole clusters in one; fewer than FOLDS where there are fewer clusters."""
    groups = len(np.unique(clusters))
    if groups < 2:
        return np.zeros(len(clusters), np.int64)
    split = need("sklearn.model_selection", "data").GroupKFold(min(FOLDS, groups)).split
    fold = np.zeros(len(clusters), np.int64)
    for place, (_, held) in enumerate(split(np.empty((len(clusters), 1)), groups=clusters)):
        fold[held] = place
    return fold


def probe(values: Ints, unsafe: Bools, weights: Floats, fold: Ints) -> Probe | None:
    """Cross-validated logistic regression over one-hot `values` [rows, confounds]; None where no fold can be judged.

    It is fitted with both labels of equal total weight, so that a share of one label is no skill. A fold counts by its
    weight if it and the others hold both labels.
    """
    preprocessing, threads = need("sklearn.preprocessing", "data"), need("threadpoolctl", "data")
    # Rows of equal values are one row to the model: weighed, they give the same fit in a fraction of the time.
    alike, cell = np.unique(values, axis=0, return_inverse=True)
    cell = cell.ravel() * 2 + unsafe
    inputs = preprocessing.OneHotEncoder(dtype=np.float64).fit_transform(alike)
    found: list[tuple[float, float, float]] = []
    with threads.threadpool_limits(1):  # problems this small take longer on many
        for place in range(int(fold.max(initial=0)) + 1):
            of_fold = fold == place
            held, learnt = (_by_label(cell[rows], weights[rows], len(alike)) for rows in (of_fold, ~of_fold))
            if min(held.sum(axis=0).min(), learnt.sum(axis=0).min()) > 0:
                scores = _fitted(inputs, learnt)
                found.append((_auroc(scores, held), _balanced_accuracy(scores, held), float(held.sum())))
    if not found:
        return None
    auroc, accuracy = np.average([each[:2] for each in found], axis=0, weights=[each[2] for each in found])
    return Probe(float(auroc), float(accuracy))


def _by_label(cell: Ints, weights: Floats, alike: int) -> Floats:
    """[alike, 2]: weight of the safe and of the unsafe rows."""
    return np.bincount(cell, weights, minlength=2 * alike).reshape(-1, 2).astype(np.float64)


def _fitted(inputs: Any, cells: Floats) -> Floats:
    """The decision function for each of `inputs`, learnt from the weight of its safe and its unsafe rows."""
    sparse, linear = need("scipy.sparse", "data"), need("sklearn.linear_model", "data")
    evened = cells * (cells.sum() / (2 * cells.sum(axis=0)))
    labels = np.repeat([False, True], len(cells))
    model = linear.LogisticRegression(max_iter=1000)
    model.fit(sparse.vstack([inputs, inputs]), labels, sample_weight=evened.T.ravel())
    scores: Floats = model.decision_function(inputs)
    return scores


def _auroc(scores: Floats, cells: Floats) -> float:
    """The chance that an unsafe row scores above a safe one, equal scores counting one half, rows by weight."""
    distinct, place = np.unique(scores, return_inverse=True)
    safe, unsafe = (np.bincount(place, weights, minlength=len(distinct)) for weights in cells.T)
    below = np.cumsum(safe) - safe
    return float(unsafe @ (below + safe / 2) / (safe.sum() * unsafe.sum()))


def _balanced_accuracy(scores: Floats, cells: Floats) -> float:
    safe, unsafe = cells.T
    return float(safe[scores < 0].sum() / safe.sum() + unsafe[scores >= 0].sum() / unsafe.sum()) / 2
