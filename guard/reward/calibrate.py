"""Calibration of a reward model on held-out rows: Platt scaling on labels, or one temperature on pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guard.metrics.classification import ece
from guard.reward.score import RewardCalibration

Floats = npt.NDArray[np.float64]
_PRIOR = 1.0  # as many pairs each way at the mean distance, or separable pairs would be certain
_STEPS = 100


def on_pairs(differences: Sequence[float], anchors: Sequence[float]) -> RewardCalibration:
    """By raw scores of better less worse answers; the bias makes the mean anchor a probability of one half."""
    z = np.asarray(differences, dtype=np.float64)
    if not len(z):
        return centred(RewardCalibration(), anchors)
    spread = float(np.abs(z).mean()) or 1.0
    told = np.concatenate([z, [spread] * 2])
    wanted = np.concatenate([np.ones(len(z)), [1.0, 0.0]])
    weight = np.concatenate([np.ones(len(z)), [_PRIOR] * 2])
    slope = max(_newton(told[:, None], wanted, weight)[0], 1e-6)
    p = _sigmoid(slope * z)
    nll = float(-np.log(np.clip(p, 1e-12, 1)).mean())
    both = np.concatenate([p, 1 - p])
    error = ece(np.repeat([True, False], len(z)), both)
    return centred(RewardCalibration(float(slope), 0.0, len(z), nll, error), anchors)


def centred(calibration: RewardCalibration, anchors: Sequence[float]) -> RewardCalibration:
    bias = -calibration.slope * float(np.mean(anchors)) if len(anchors) else 0.0
    return RewardCalibration(
        calibration.slope, bias, calibration.rows, calibration.nll, calibration.ece, tuple(map(float, anchors))
    )


def on_labels(scores: Sequence[float], labels: Sequence[bool], anchors: Sequence[float]) -> RewardCalibration:
    """By raw scores of good and bad answers (Platt 1999, with smoothed targets)."""
    z, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    good, bad = int(y.sum()), int((~y).sum())
    if not good or not bad:
        return centred(RewardCalibration(rows=len(y)), anchors)
    target = np.where(y, (good + 1) / (good + 2), 1 / (bad + 2))
    scale = float(z.std()) or 1.0
    slope, bias = _newton(np.stack([z / scale, np.ones(len(z))], 1), target, np.ones(len(z)))
    slope = max(slope / scale, 1e-6)
    p = np.clip(_sigmoid(slope * z + bias), 1e-12, 1 - 1e-12)
    nll = float(-np.where(y, np.log(p), np.log(1 - p)).mean())
    return RewardCalibration(float(slope), float(bias), len(y), nll, ece(y, p), tuple(map(float, anchors)))


def _newton(x: Floats, target: Floats, weight: Floats) -> Floats:
    """Logistic regression with a little ridge, which separable rows need."""
    beta, ridge = np.zeros(x.shape[1]), 1e-3 * np.eye(x.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (weight * (target - p)) - ridge @ beta
        curve = x.T @ (x * (weight * p * (1 - p))[:, None]) + ridge
        step = np.linalg.solve(curve, gradient)
        if (longest := float(np.abs(step).max())) > 1:
            step = step / longest
        beta = beta + step
        if longest < 1e-9:
            break
    return beta


def _sigmoid(z: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(0.5 * z))
    return found
