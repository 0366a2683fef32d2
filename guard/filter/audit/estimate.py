"""Precision and recall of a guard on all filtered rows, estimated from the labels of a stratified sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guard.errors import DataError
from guard.filter.audit.labels import Label
from guard.filter.audit.sample import Sampled, Stratum
from guard.verdict import Outcome

_DRAWS = 10_000
_QUANTILES = (0.025, 0.975)
_PRIOR = 0.5  # Jeffreys
METRICS = ("precision", "recall", "false_positive_rate", "unsafe_share")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share of all rows, and its 95 % interval; `value` is None where it is undefined, as precision of no UNSAFE."""

    value: float | None
    low: float
    high: float


def estimate(
    sample: Sequence[Sampled], strata: Sequence[Stratum], labels: Mapping[int, Label], seed: int = 0
) -> dict[str, Estimate]:
    """The estimates by name, of METRICS. INCOMPLETE counts as flagged: such a row is not kept as safe.

    Each stratum counts by its rows, not by its labels. Intervals are quantiles of the posterior under a Jeffreys prior
    in each stratum (Brown, Cai and DasGupta 2001), which a stratum without mistakes leaves open, too. A stratum without
    labels is taken to be like the nearest one of its outcome. DataError where an outcome has no label at all.
    """
    rows, flagged, unsafe, labelled = _counts(sample, strata, labels)
    share = unsafe / labelled
    random = np.random.default_rng(seed)
    drawn = random.beta(unsafe + _PRIOR, labelled - unsafe + _PRIOR, (_DRAWS, len(rows)))
    values = _metrics(rows, flagged, share[None])
    posterior = _metrics(rows, flagged, drawn)
    made = {}
    for name in METRICS:
        value = float(values[name][0])
        low, high = np.nanquantile(posterior[name], _QUANTILES) if np.isfinite(posterior[name]).any() else (0.0, 1.0)
        known = np.isfinite(value)
        made[name] = Estimate(
            value if known else None,
            min(float(low), value) if known else float(low),
            max(float(high), value) if known else float(high),
        )
    return made


def _metrics(
    rows: npt.NDArray[np.float64], flagged: npt.NDArray[np.bool_], unsafe: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64]]:
    """By name [draws], from the share of unsafe rows [draws, strata]."""
    tp, fp = (unsafe[:, flagged] * rows[flagged]).sum(1), ((1 - unsafe[:, flagged]) * rows[flagged]).sum(1)
    fn, tn = (unsafe[:, ~flagged] * rows[~flagged]).sum(1), ((1 - unsafe[:, ~flagged]) * rows[~flagged]).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "false_positive_rate": fp / (fp + tn),
            "unsafe_share": (tp + fn) / rows.sum(),
        }


def _counts(
    sample: Sequence[Sampled], strata: Sequence[Stratum], labels: Mapping[int, Label]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By stratum with labels: the rows it stands for, whether they are flagged, unsafe labels, and labels."""
    said: dict[tuple[str, int], list[bool]] = {}
    for each in sample:
        if each.id in labels:
            said.setdefault((each.outcome, each.bin), []).append(labels[each.id].label == "unsafe")
    rows = dict.fromkeys(said, 0.0)
    for stratum in strata:
        near = [name for name in said if name[0] == stratum.outcome]
        if not near:
            raise DataError(
                f"no row of the outcome {stratum.outcome} has a label, though {stratum.rows:,} rows have that outcome; "
                "label some of them"
            )
        rows[min(near, key=lambda name: (abs(name[1] - stratum.bin), name[1]))] += stratum.rows
    names = list(said)
    return (
        np.array([rows[name] for name in names], np.float64),
        np.array([name[0] != Outcome.SAFE.value for name in names], np.bool_),
        np.array([sum(said[name]) for name in names], np.float64),
        np.array([len(said[name]) for name in names], np.float64),
    )
