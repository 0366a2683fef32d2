"""Metrics of a binary classifier over arrays: `labels` (True = unsafe), `scores` (higher = more unsafe).

A row is flagged if its score is at or above the threshold, which is one number or one per row. Arrays are
one-dimensional and of equal length; ValueError if they are not, or if a score is NaN. An undefined metric (a
false-positive rate without safe rows, an F1 of one class) is None, never a made-up number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Metric = Callable[[Bools, Floats], float | None]

ECE_BINS = 15
SHORTEST_RANGE = 32


@dataclass(frozen=True, slots=True)
class Confusion:
    """Row counts at a threshold, and the metrics derived from them."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def both(self) -> bool:
        """Whether there are rows of both classes."""
        return self.tp + self.fn > 0 and self.tn + self.fp > 0

    @property
    def precision(self) -> float | None:
        """Share of the flagged rows that are unsafe; None if nothing is flagged or one class is missing."""
        return self.tp / (self.tp + self.fp) if self.both and self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def fpr(self) -> float | None:
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else None

    @property
    def f1(self) -> float | None:
        """F1 of the unsafe class; None for rows of one class, where it would say nothing about false alarms."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.both else None


def confusion(labels: Bools, scores: Floats, threshold: float | Floats) -> Confusion:
    labels, scores = _validated(labels, scores)
    flagged = scores >= threshold
    tp, fp = int((flagged & labels).sum()), int((flagged & ~labels).sum())
    return Confusion(tp, fp, int((~labels).sum()) - fp, int(labels.sum()) - tp)


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a metric and the threshold at which it is reached."""

    value: float
    threshold: float


def best_f1(labels: Bools, scores: Floats, slack: float = 0.0) -> Point | None:
    """The highest threshold whose F1 is within `slack` of the best over all thresholds."""
    curve = _curve(labels, scores)
    if curve is None:
        return None
    f1 = 2 * curve.tp / (curve.tp + curve.fp + curve.tp[-1])
    best = int((f1 >= f1.max() - slack).argmax())
    return Point(float(f1[best]), curve.threshold(best))


def tpr_at_fpr(labels: Bools, scores: Floats, max_fpr: float) -> Point | None:
    """The highest recall at a false-positive rate of at most `max_fpr`; of ties, the highest threshold.

    If no unsafe row can be flagged at that rate, recall is 0 and the threshold infinite.
    """
    curve = _curve(labels, scores)
    if curve is None:
        return None
    within = curve.tp[curve.fp / curve.fp[-1] <= max_fpr]
    if not within.any():
        return Point(0.0, math.inf)
    best = int(within.argmax())
    return Point(float(curve.tp[best] / curve.tp[-1]), curve.threshold(best))


def auprc(labels: Bools, scores: Floats) -> float | None:
    """Average precision: precision summed over the steps of recall, with tied scores as one step.

    Source: scikit-learn's average_precision_score; no interpolation.
    """
    curve = _curve(labels, scores)
    return None if curve is None else average_precision(curve.tp, curve.fp)


def auroc(labels: Bools, scores: Floats) -> float | None:
    """The probability that an unsafe row scores above a safe one; ties count one half."""
    curve = _curve(labels, scores)
    return None if curve is None else roc_area(curve.tp, curve.fp)


def average_precision(tp: Floats, fp: Floats) -> float:
    """AUPRC from the number of flagged rows of each class at every threshold, the highest first."""
    steps = np.diff(tp, prepend=0) / tp[-1]
    flagged = np.maximum(tp + fp, 1)  # where no row is flagged, no step is taken
    return float((steps * tp / flagged).sum())


def roc_area(tp: Floats, fp: Floats) -> float:
    """AUROC from the same numbers."""
    tpr = np.concatenate([[0.0], tp / tp[-1]])
    fpr = np.concatenate([[0.0], fp / fp[-1]])
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2)  # not `@`, whose threads cost more than they save


@dataclass(frozen=True, slots=True)
class Curves:
    """False-positive rate, recall and precision at every threshold, the highest first."""

    fpr: Floats
    recall: Floats
    precision: Floats


def curves(labels: Bools, scores: Floats) -> Curves | None:
    """The ROC curve (fpr, recall) and the precision-recall curve; None if a class is missing."""
    curve = _curve(labels, scores)
    if curve is None:
        return None
    return Curves(curve.fp / curve.fp[-1], curve.tp / curve.tp[-1], curve.tp / (curve.tp + curve.fp))


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows in a range of p(unsafe): their number, their mean p, and the share that is unsafe."""

    low: float
    high: float
    rows: int
    mean: float
    unsafe: float


def reliability(labels: Bools, probabilities: Floats) -> tuple[Bin, ...]:
    """The non-empty bins of the expected calibration error, lowest first.

    ValueError if a probability lies outside [0, 1].
    """
    labels, probabilities = _validated(labels, probabilities)
    if len(labels) and (probabilities.min() < 0 or probabilities.max() > 1):
        raise ValueError("probabilities must lie in [0, 1]; calibrate the scores first")
    places = np.minimum((probabilities * ECE_BINS).astype(int), ECE_BINS - 1)
    rows = np.bincount(places, minlength=ECE_BINS)
    mean, unsafe = (np.bincount(places, values, ECE_BINS) / np.maximum(rows, 1) for values in (probabilities, labels))
    return tuple(
        Bin(place / ECE_BINS, (place + 1) / ECE_BINS, int(rows[place]), float(mean[place]), float(unsafe[place]))
        for place in map(int, np.flatnonzero(rows))
    )


def ece(labels: Bools, probabilities: Floats) -> float | None:
    """Expected calibration error of p(unsafe): |share unsafe - mean p| in each of 15 equal bins, weighted by rows.

    ValueError if a probability lies outside [0, 1]. Source: Naeini et al. 2015, with the bins over p(unsafe).
    """
    bins = reliability(labels, probabilities)
    if not bins:
        return None
    return sum(part.rows * abs(part.unsafe - part.mean) for part in bins) / sum(part.rows for part in bins)


@dataclass(frozen=True, slots=True)
class Range:
    """The rows whose length lies in [low, high), and their confusion."""

    low: int
    high: int
    confusion: Confusion


def by_length(labels: Bools, flagged: Bools, lengths: npt.NDArray[np.int64]) -> tuple[Range, ...]:
    """The confusion of each non-empty range of lengths; ranges double from 32, and the first is [0, 32)."""
    labels, scores = _validated(labels, np.asarray(flagged, dtype=np.float64))
    octaves = np.floor(np.log2(np.maximum(lengths, 1) / SHORTEST_RANGE)).astype(int)
    bins = np.maximum(octaves + 1, 0)
    ranges = []
    for number in map(int, np.unique(bins)):
        in_range = bins == number
        low = SHORTEST_RANGE << (number - 1) if number else 0
        ranges.append(Range(low, SHORTEST_RANGE << number, confusion(labels[in_range], scores[in_range], 0.5)))
    return tuple(ranges)


@dataclass(frozen=True, slots=True)
class _Curve:
    """Every distinct score, highest first, with the number of rows at or above it, by class."""

    scores: Floats
    tp: Floats
    fp: Floats

    def threshold(self, index: int) -> float:
        """A threshold that flags exactly the rows at or above score `index`: half-way to the next lower score.

        On the score itself, a rounding error in the last bit would decide.
        """
        upper = float(self.scores[index])
        if index + 1 == len(self.scores):
            return upper
        lower = float(self.scores[index + 1])
        middle = lower / 2 + upper / 2
        return middle if lower < middle <= upper else upper


def _curve(labels: Bools, scores: Floats) -> _Curve | None:
    """None if a class is missing."""
    labels, scores = _validated(labels, scores)
    if labels.all() or not labels.any():
        return None
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    last = last_of_ties(scores)
    tp = np.cumsum(labels, dtype=np.float64)[last]
    return _Curve(scores[last], tp, last + 1 - tp)


def last_of_ties(ranked: Floats) -> npt.NDArray[np.intp]:
    """The index of the last of each group of tied scores."""
    return np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)


def _validated(labels: Bools, scores: Floats) -> tuple[Bools, Floats]:
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be one-dimensional, of equal length")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN")
    return labels, scores
