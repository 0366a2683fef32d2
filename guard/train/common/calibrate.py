"""Fits a bundle's calibration on dev examples: Platt scaling for each target, and the thresholds of each mode."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from guard.calibration import NEVER, Calibration, TargetCalibration, Thresholds
from guard.conversation import Example, Target
from guard.engines.base import Engine
from guard.errors import DataError
from guard.metrics import classification
from guard.moderator.evidence import evidence
from guard.moderator.steps import run, together
from guard.policy import Policy
from guard.verdict import log_odds

MIN_ROWS = 20  # of each class; with fewer, a fit is mostly noise
MOST_RULE_ROWS = 2000  # scored to fit what is added under policies never seen
MIN_CATEGORY_ROWS = 15  # that violate the category, and that do not
STRICT_FPR, PERMISSIVE_FPR, RARE_FPR = 0.05, 0.01, 0.001
KINDS = ("prompt", "response")
FLAT = 0.003  # of F1: within dev's noise, so the threshold with the fewest false positives is chosen
_CHUNK = 512  # examples that are tokenized and held at once
_TOLERANCE = 1e-10  # of the gradient, for each unit of weight

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def fit(log_odds: Floats, labels: Bools, weights: Floats | None = None) -> tuple[float, float]:
    """(slope, bias) so that sigmoid(slope · log-odds + bias) is the chance that a row is unsafe; slope is above 0.

    Least log loss against Platt's smoothed targets, which keep the fit finite where the classes separate. `weights`: a
    row of weight 2 counts as two rows (default: 1 each).
    DataError with fewer than 20 rows of a class, or where higher log-odds do not mean unsafe.
    Source: Platt 1999; Lin, Lin and Weng 2007.
    """
    labels, z = np.asarray(labels, dtype=bool), np.asarray(log_odds, dtype=np.float64)
    unsafe, safe = int(labels.sum()), int((~labels).sum())
    if min(unsafe, safe) < MIN_ROWS:
        raise DataError(f"{unsafe} unsafe and {safe} safe rows are too few to fit; need {MIN_ROWS} of each")
    w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    positive, negative = w[labels].sum(), w[~labels].sum()
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    if np.ptp(z) == 0:
        raise DataError("every row has the same log-odds; check the training before calibrating")
    middle, spread = z.mean(), z.std()  # the fit is in these units, so that one tolerance suits every engine
    start = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    slope, bias = _least_loss((z - middle) / spread, targets, w, start)
    if not slope > 0:
        raise DataError("log-odds do not increase with unsafe rows; check the training before calibrating")
    return float(slope / spread), float(bias - slope * middle / spread)


def _least_loss(z: Floats, targets: Floats, weights: Floats, start: Floats) -> Floats:
    """[slope, bias] of least summed log loss, from `start`; the loss is convex."""
    rows = np.stack([z, np.ones(len(z))])

    def loss(point: Floats) -> tuple[float, Floats]:
        return _loss(point @ rows, targets, weights), rows @ (weights * (_sigmoid(point @ rows) - targets))

    def hessian(point: Floats) -> Floats:
        p = _sigmoid(point @ rows)
        return np.asarray((rows * (weights * p * (1 - p))) @ rows.T)

    options = {"gtol": _TOLERANCE * weights.sum()}
    result = optimize.minimize(loss, start, jac=True, hess=hessian, method="trust-exact", options=options)
    return np.asarray(result.x, dtype=np.float64)


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


def _loss(z: Floats, targets: Floats | Bools, weights: Floats | float = 1.0) -> float:
    """Summed log loss of sigmoid(z) against targets in [0, 1]."""
    return float((weights * (np.logaddexp(0.0, z) - targets * z)).sum())


def choose_thresholds(p: Floats, labels: Bools) -> Thresholds:
    """balanced = best F1, or the highest threshold within .003 of it; strict flags 5 % of the safe rows, or twice as
    many as balanced if that is more; permissive flags 1 % of them, but never more than balanced (ADR 004).

    Each lies half-way between two of the probabilities, so that no rounding decides; where even the highest ones are
    too often safe, permissive lies above them. DataError without rows of both classes.
    """
    points = {fpr: classification.tpr_at_fpr(labels, p, fpr) for fpr in (RARE_FPR, PERMISSIVE_FPR, STRICT_FPR)}
    balanced = classification.best_f1(labels, p, FLAT)
    if balanced is None or None in points.values():
        raise DataError("thresholds need safe and unsafe rows; all rows given are of one class")
    top = float(p.max())
    above = (top + 1) / 2 if top < 1 else NEVER
    at = {fpr: min(point.threshold, above) for fpr, point in points.items() if point is not None}
    middle = balanced.threshold
    twice = 2 * float((p[~labels] >= middle).mean())
    strict = classification.tpr_at_fpr(labels, p, twice) if twice > STRICT_FPR else None
    return Thresholds(
        min(at[STRICT_FPR] if strict is None else strict.threshold, middle),
        middle,
        max(at[PERMISSIVE_FPR], middle),
        {f"{fpr:g}": threshold for fpr, threshold in at.items()},
    )


def calibrate(
    engine: Engine, examples: Sequence[Example], policy: Policy, kinds: Collection[str] = KINDS
) -> tuple[Calibration, dict[str, Any]]:
    """The calibration of `engine` on `examples` of `kinds`, and a report of rows, log loss and ECE before and after.

    Examples of kind `text` (comments, not traffic of a model) are left out by default: their share in a data set is
    unrelated to the traffic that the thresholds are for. A target with too few rows of its own is calibrated on both
    targets together. If these are too few, or log-odds do not increase with unsafe rows, it keeps the identity and
    thresholds of 0.5. Its report has a `note` that says so.
    """
    used = [example for example in examples if example.kind in kinds]
    own = {target: _scored(engine, [e for e in used if e.conversation.target is target], policy) for target in Target}
    fitted: dict[Target, TargetCalibration] = {}
    report: dict[str, Any] = {}
    for target, rows in own.items():
        few = rows.fewest < MIN_ROWS
        fitted[target], summary = _calibrated(_Scored.joined(list(own.values())) if few else rows, policy)
        if few and "note" not in summary:
            summary["note"] = (
                f"{rows.unsafe} unsafe and {len(rows.labels) - rows.unsafe} safe rows of its own are too few; "
            )
            summary["note"] += "calibrated on prompts and responses together"
        report[target.value] = summary
    calibration = Calibration(fitted[Target.PROMPT], fitted[Target.RESPONSE])
    return calibration, {"kinds": sorted(kinds), "left_out": len(examples) - len(used), **report}


def fit_unseen(
    engine: Engine, rows: Sequence[tuple[Example, Policy]], fitted: Calibration, most: int = MOST_RULE_ROWS
) -> tuple[Calibration, dict[str, Any]]:
    """`fitted` with the log-odds to add under policies that the guard was not trained for, and a report.

    rows: texts under rules that no training row has; `most` of them, drawn by their weights, are scored. The shift
    moves the threshold of best F1 on them to that of the mode `balanced` for prompts. It is none if that would make the
    guard more timid, or with too few rows of a class.
    """
    chosen = random.Random(0).choices(rows, [example.weight for example, _ in rows], k=min(most, len(rows)))
    labels = np.array([example.label == "unsafe" for example, _ in chosen], dtype=bool)
    report: dict[str, Any] = {"unseen_rules": {"rows": len(labels), "unsafe": int(labels.sum())}}
    if min(labels.sum(), (~labels).sum()) < MIN_ROWS:
        return fitted, report
    z = np.empty(len(chosen))
    for start in range(0, len(chosen), _CHUNK):
        asked = [evidence(engine, example.conversation, rules) for example, rules in chosen[start : start + _CHUNK]]
        for index, result in enumerate(run(together(asked), engine), start):
            if isinstance(result, Exception):
                raise result
            z[index] = result.score.unsafe
    best = classification.best_f1(labels, z, FLAT)
    assert best is not None  # both classes have rows
    scale = fitted.prompt
    shift = max(0.0, (log_odds(scale.thresholds.balanced) - scale.bias) / scale.slope - best.threshold)
    report["unseen_rules"] |= {"shift": shift, "f1": best.value}
    return dataclasses.replace(fitted, unseen=shift), report


@dataclass(frozen=True, slots=True, repr=False)
class _Scored:
    """Examples, their labels, and their log-odds (see `scores`)."""

    examples: Sequence[Example]
    labels: Bools
    z: Floats
    by_category: Floats

    @property
    def unsafe(self) -> int:
        return int(self.labels.sum())

    @property
    def fewest(self) -> int:
        """Rows of the rarer class."""
        return min(self.unsafe, len(self.labels) - self.unsafe)

    @classmethod
    def joined(cls, parts: Sequence[_Scored]) -> _Scored:
        return cls(
            [example for part in parts for example in part.examples],
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.z for part in parts]),
            np.concatenate([part.by_category for part in parts]),
        )


def _scored(engine: Engine, examples: Sequence[Example], policy: Policy) -> _Scored:
    labels = np.array([example.label == "unsafe" for example in examples], dtype=bool)
    return _Scored(examples, labels, *scores(engine, examples, policy))


def _calibrated(rows: _Scored, policy: Policy) -> tuple[TargetCalibration, dict[str, Any]]:
    z, labels = rows.z, rows.labels
    report: dict[str, Any] = {"rows": len(labels), "unsafe": rows.unsafe}
    try:
        slope, bias = fit(z, labels)
    except DataError as problem:
        return TargetCalibration(), report | {"note": f"not calibrated: {problem}"}
    p = _sigmoid(slope * z + bias)
    categories, counts = _category_thresholds(_sigmoid(slope * rows.by_category + bias), rows.examples, policy)
    report |= {
        "slope": slope,
        "bias": bias,
        "nll": {"before": _loss(z, labels) / len(z), "after": _loss(slope * z + bias, labels) / len(z)},
        "ece": {"before": classification.ece(labels, _sigmoid(z)), "after": classification.ece(labels, p)},
        "categories": counts,
    }
    return TargetCalibration(slope, bias, choose_thresholds(p, labels), categories), report


def _category_thresholds(
    p: Floats, examples: Sequence[Example], policy: Policy
) -> tuple[dict[str, Thresholds], dict[str, Any]]:
    """Thresholds of the categories with enough rows, and the rows of every category.

    Only examples with known categories count. A category that is left out takes the verdict's threshold.
    """
    known = [index for index, example in enumerate(examples) if _codes(example) is not None]
    chosen: dict[str, Thresholds] = {}
    counts: dict[str, Any] = {}
    for column, code in enumerate(policy.codes):
        labels = np.array([code in (_codes(examples[index]) or ()) for index in known], dtype=bool)
        counts[code] = {"rows": len(known), "unsafe": int(labels.sum())}
        if min(labels.sum(), (~labels).sum()) >= MIN_CATEGORY_ROWS:
            chosen[code] = choose_thresholds(p[known, column], labels)
    return chosen, counts


def _codes(example: Example) -> frozenset[str] | None:
    """The codes that an example violates, None if unknown. A safe one violates none."""
    return frozenset() if example.label == "safe" else example.categories


def scores(engine: Engine, examples: Sequence[Example], policy: Policy) -> tuple[Floats, Floats]:
    """Uncalibrated log-odds: of the verdict [examples], and of each category [examples, categories].

    They come from the same evidence as every verdict: the worst of all windows, views included.
    Raises the first error if any example cannot be scored.
    """
    unsafe = np.empty(len(examples))
    categories = np.empty((len(examples), len(policy.codes)))
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        results = run(together([evidence(engine, example.conversation, policy) for example in chunk]), engine)
        for index, result in enumerate(results, start):
            if isinstance(result, Exception):
                raise result
            unsafe[index] = result.score.unsafe
            categories[index] = result.score.categories
    return unsafe, categories
