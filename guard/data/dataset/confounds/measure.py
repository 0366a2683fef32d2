"""The confound report: attributes that predict the label of a data set without being what the label is about.

A model that can tell unsafe rows by their source, language or length learns that instead of harm. The report counts
label x value for each confound, and measures with a probe (see `probe`) how well the value alone predicts the label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from guard.data.build.columns import Bools, Column, Columns, Floats, Ints, by_label, cross
from guard.data.dataset.confounds.probe import Probe, folds, probe
from guard.data.dataset.confounds.surface import FEATURES
from guard.errors import DataError

SAMPLED = 50_000  # rows that a probe is fitted on
WARN_ABOVE = 0.65  # AUROC
WARN_SHARE = 0.01  # of the weight, in one-sided values: too little to move the AUROC, enough to be learnt
ONE_SIDED = 0.95  # share of one label from which a value is one-sided
SINGLE = ("language", "length", "kind", "source", "role", "licence")
CROSSED = (("language", "kind"), ("language", "length", "kind"))
PROVENANCE = ("source", "role", "licence")  # not in a model's input, though it may show in the style
VISIBLE, SURFACE, OTHER = "all but provenance", "surface", "all others"
_TOP = 20  # values in a table


@dataclass(frozen=True, slots=True)
class Value:
    """The rows with one value, and their weights, by label."""

    value: str
    safe_rows: int
    unsafe_rows: int
    safe: float
    unsafe: float

    @property
    def weight(self) -> float:
        return self.safe + self.unsafe


@dataclass(frozen=True, slots=True)
class Confound:
    """How much one confound, made of `columns`, says about the label.

    table: the values with the most rows, then the rest as OTHER. bits: the weighted mutual information with the label
    over all rows; with few rows of many values it is biased upwards, which the probe is not. information: the same as
    a share of the label's entropy, None if there is one label only. one_sided: of the values of (almost) one label,
    those with the most rows; there are `one_sided_values`, with `one_sided_share` of the weight. parts: the bits of
    each confound in a bag.
    """

    name: str
    columns: tuple[str, ...]
    values: int = 0
    table: tuple[Value, ...] = ()
    bits: float | None = None
    information: float | None = None
    one_sided: tuple[Value, ...] = ()
    one_sided_values: int = 0
    one_sided_share: float = 0.0
    parts: tuple[tuple[str, float], ...] = ()
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """effective_rows: Kish's effective sample size, (sum w)² / sum w²."""

    rows: int
    unsafe_rows: int
    unsafe_share: float
    effective_rows: float
    sampled: int
    warn_above: float
    confounds: tuple[Confound, ...]

    @property
    def warned(self) -> tuple[Confound, ...]:
        """The confounds with a probe above `warn_above` or a one-sided share above WARN_SHARE, worst first."""
        warned = [
            confound
            for confound in self.confounds
            if confound.probe and (confound.probe.auroc > self.warn_above or confound.one_sided_share > WARN_SHARE)
        ]
        return tuple(sorted(warned, key=lambda confound: -(confound.probe.auroc if confound.probe else 0.0)))


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """The rows that probes are fitted on: their indices, clusters, and surface features [rows, features] if needed."""

    rows: npt.NDArray[np.int64]
    clusters: Ints
    surface: npt.NDArray[np.uint8] | None = None


def draw_sample(counted: Bools, seed: int, at_most: int = SAMPLED) -> npt.NDArray[np.int64]:
    """Sorted indices of at most `at_most` counted rows; weights do not matter, so before and after share a sample."""
    rows = np.flatnonzero(counted)
    if len(rows) <= at_most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False, shuffle=False))


def measure(columns: Columns, weights: Floats, sample: Sample, warn_above: float = WARN_ABOVE) -> Report:
    """The report over the counted rows of positive weight; DataError if there are none."""
    columns = dataclasses.replace(columns, counted=columns.counted & (weights > 0))
    if not columns.counted.any():
        raise DataError(f"none of {len(weights)} rows is labelled and of positive weight; there is nothing to report")
    used = columns.counted[sample.rows]
    probes = _Probes(
        sample.rows[used], columns.unsafe, weights / weights[columns.counted].mean(), folds(sample.clusters[used])
    )
    single = [(name,) for name in SINGLE if name in columns.of]
    crossed = [names for names in CROSSED if all(name in columns.of for name in names)]
    confounds = [_confound(names, columns, weights, probes) for names in (*single, *crossed)]
    if visible := [one for one in confounds if len(one.columns) == 1 and one.name not in PROVENANCE]:
        values = np.stack([columns.of[one.name].codes[probes.rows] for one in visible], axis=1)
        parts = _strongest((one.name, one.bits or 0.0) for one in visible)
        confounds.append(Confound(VISIBLE, tuple(one.name for one in visible), parts=parts, probe=probes.fit(values)))
    if sample.surface is not None:
        confounds.append(_surface(sample.surface[used], probes))
    positive = weights[columns.counted]
    unsafe = columns.unsafe[columns.counted]
    return Report(
        rows=len(positive),
        unsafe_rows=int(unsafe.sum()),
        unsafe_share=float(positive[unsafe].sum() / positive.sum()),
        effective_rows=float(positive.sum() ** 2 / (positive**2).sum()),
        sampled=len(probes.rows),
        warn_above=warn_above,
        confounds=tuple(confounds),
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Probes:
    """The input of all probes: sampled rows of positive weight with their folds; labels and weights of all rows."""

    rows: npt.NDArray[np.int64]
    unsafe: Bools
    weights: Floats
    fold: Ints

    def fit(self, values: Ints) -> Probe | None:
        return probe(values, self.unsafe[self.rows], self.weights[self.rows], self.fold)

    def counts(self, codes: Ints) -> Floats:
        """[values, 2]: weight of the sampled rows by value and label."""
        cells = codes.astype(np.int64) * 2 + self.unsafe[self.rows]
        size = 2 * (int(codes.max(initial=0)) + 1)
        return np.bincount(cells, self.weights[self.rows], minlength=size).reshape(-1, 2).astype(np.float64)


def _confound(names: tuple[str, ...], columns: Columns, weights: Floats, probes: _Probes) -> Confound:
    column = cross([columns.of[name] for name in names])
    rows, weight = by_label(column, columns), by_label(column, columns, weights)
    values = _values(column, rows, weight)
    one_sided = [value for value in values if max(value.safe, value.unsafe) >= ONE_SIDED * value.weight]
    rest = [values[_TOP - 1 :]] if len(values) > _TOP else []
    bits, entropy = _bits(weight), _entropy(weight.sum(axis=0))
    return Confound(
        name=" × ".join(names),
        columns=names,
        values=len(values),
        table=(*(values[: _TOP - 1] if rest else values), *(_sum(others) for others in rest)),
        bits=bits,
        information=bits / entropy if entropy else None,
        one_sided=tuple(one_sided[:_TOP]),
        one_sided_values=len(one_sided),
        one_sided_share=sum(value.weight for value in one_sided) / float(weight.sum()),
        probe=probes.fit(column.codes[probes.rows, None]),
    )


def _surface(surface: npt.NDArray[np.uint8], probes: _Probes) -> Confound:
    parts = ((name, _bits(probes.counts(surface[:, index]))) for index, name in enumerate(FEATURES))
    return Confound(SURFACE, (), parts=_strongest(parts), probe=probes.fit(surface))


def _strongest(parts: Any) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(parts, key=lambda part: -part[1]))


def _values(column: Column, rows: Floats, weight: Floats) -> list[Value]:
    """The values that occur, those with the most rows first."""
    values = [
        Value(name or "unknown", int(safe_rows), int(unsafe_rows), float(safe), float(unsafe))
        for name, (safe_rows, unsafe_rows), (safe, unsafe) in zip(column.values, rows, weight, strict=True)
        if safe_rows + unsafe_rows
    ]
    return sorted(values, key=lambda value: (-value.safe_rows - value.unsafe_rows, value.value))


def _sum(values: Sequence[Value]) -> Value:
    return Value(
        OTHER,
        sum(value.safe_rows for value in values),
        sum(value.unsafe_rows for value in values),
        sum(value.safe for value in values),
        sum(value.unsafe for value in values),
    )


def _entropy(weights: Floats) -> float:
    """In bits."""
    shares = weights[weights > 0] / weights.sum()
    return float(-(shares * np.log2(shares)).sum())


def _bits(cells: Floats) -> float:
    """Mutual information of value and label [values, 2], in bits."""
    marginal = _entropy(cells.sum(axis=0)) + _entropy(cells.sum(axis=1))
    return max(marginal - _entropy(cells.ravel()), 0.0)
