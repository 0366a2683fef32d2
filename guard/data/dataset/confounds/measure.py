"""The confound report: what predicts the label of a data set without being what the label is about.

A model that can tell unsafe rows by their source, language or length learns that instead of harm. The report counts
label x value for each confound, and asks a probe (see guard.data.dataset.confounds.probe) how far the value alone gets.
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
from guard.data.dataset.confounds.surface import TRAITS
from guard.errors import DataError

SAMPLED = 50_000  # rows that a probe is fitted on
WARN_ABOVE = 0.65  # AUROC
WARN_SHARE = 0.01  # of the weight, in values of one label: too few to move the AUROC, enough to be learnt
ONE_SIDED = 0.95  # share of one label from which a value counts as one-sided
SINGLE = ("language", "length", "kind", "source", "role", "licence")
CROSSED = (("language", "kind"), ("language", "length", "kind"))
PROVENANCE = ("source", "role", "licence")  # what no model reads, though it may show in the style
VISIBLE, SURFACE, OTHER = "all but provenance", "surface", "all others"
_TOP = 20  # values that a table shows


@dataclass(frozen=True, slots=True)
class Value:
    """The rows that share a value, and their weights."""

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
    """How much one confound tells about the label; `columns` are those that it is made of.

    table: the values with most rows, then the rest as OTHER. bits: mutual information with the label, by weight, over
    all rows; on few rows of many values it is too high, which the probe is not. information: the same as a share of the
    label's entropy, None where there is one label only. one_sided: of the values of (nearly) one label, those with most
    rows; there are `one_sided_values`, with `one_sided_share` of the weight. parts: bits of each confound in a bag.
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
    """effective_rows: how many rows of equal weight would be worth as much (Kish: (sum w)² / sum w²)."""

    rows: int
    unsafe_rows: int
    unsafe_share: float
    effective_rows: float
    sampled: int
    warn_above: float
    confounds: tuple[Confound, ...]

    @property
    def warned(self) -> tuple[Confound, ...]:
        """The confounds with a probe beyond `warn_above` or a one-sided share beyond WARN_SHARE, worst first."""
        found = [
            one
            for one in self.confounds
            if one.probe and (one.probe.auroc > self.warn_above or one.one_sided_share > WARN_SHARE)
        ]
        return tuple(sorted(found, key=lambda one: -(one.probe.auroc if one.probe else 0.0)))


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """The rows that probes are fitted on: their places, clusters, and surfaces [rows, traits] if those are wanted."""

    rows: npt.NDArray[np.int64]
    clusters: Ints
    surface: npt.NDArray[np.uint8] | None = None


def draw_sample(counted: Bools, seed: int, at_most: int = SAMPLED) -> npt.NDArray[np.int64]:
    """Places of at most `at_most` counted rows, in order; weights do not matter, so before and after share a sample."""
    places = np.flatnonzero(counted)
    if len(places) <= at_most:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, at_most, replace=False, shuffle=False))


def measure(columns: Columns, weights: Floats, chosen: Sample, warn_above: float = WARN_ABOVE) -> Report:
    """The report over the counted rows with a weight above 0; DataError if there are none."""
    columns = dataclasses.replace(columns, counted=columns.counted & (weights > 0))
    if not columns.counted.any():
        raise DataError(f"none of {len(weights)} rows is labelled and weighs anything; there is nothing to report on")
    used = columns.counted[chosen.rows]
    probed = _Probed(
        chosen.rows[used], columns.unsafe, weights / weights[columns.counted].mean(), folds(chosen.clusters[used])
    )
    names = [name for name in SINGLE if name in columns.of]
    found = [
        _confound(together, columns, weights, probed)
        for together in (*((name,) for name in names), *CROSSED)
        if all(name in columns.of for name in together)
    ]
    if visible := [one for one in found if len(one.columns) == 1 and one.name not in PROVENANCE]:
        values = np.stack([columns.of[one.name].codes[probed.rows] for one in visible], axis=1)
        parts = _strongest((one.name, one.bits or 0.0) for one in visible)
        found.append(Confound(VISIBLE, tuple(one.name for one in visible), parts=parts, probe=probed.by(values)))
    if chosen.surface is not None:
        found.append(_surface(chosen.surface[used], probed))
    mine = weights[columns.counted]
    unsafe = columns.unsafe[columns.counted]
    return Report(
        rows=len(mine),
        unsafe_rows=int(unsafe.sum()),
        unsafe_share=float(mine[unsafe].sum() / mine.sum()),
        effective_rows=float(mine.sum() ** 2 / (mine**2).sum()),
        sampled=len(probed.rows),
        warn_above=warn_above,
        confounds=tuple(found),
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Probed:
    """The sampled rows that weigh anything; labels and weights of all rows, fold of each sampled one."""

    rows: npt.NDArray[np.int64]
    unsafe: Bools
    weights: Floats
    fold: Ints

    def by(self, values: Ints) -> Probe | None:
        return probe(values, self.unsafe[self.rows], self.weights[self.rows], self.fold)

    def counts(self, codes: Ints) -> Floats:
        """[values, 2]: weight of the sampled rows by value and label."""
        cells = codes.astype(np.int64) * 2 + self.unsafe[self.rows]
        size = 2 * (int(codes.max(initial=0)) + 1)
        return np.bincount(cells, self.weights[self.rows], minlength=size).reshape(-1, 2).astype(np.float64)


def _confound(names: tuple[str, ...], columns: Columns, weights: Floats, probed: _Probed) -> Confound:
    column = cross([columns.of[name] for name in names])
    rows, weighed = by_label(column, columns), by_label(column, columns, weights)
    values = _values(column, rows, weighed)
    one_sided = [one for one in values if max(one.safe, one.unsafe) >= ONE_SIDED * one.weight]
    rest = [values[_TOP - 1 :]] if len(values) > _TOP else []
    bits, entropy = _bits(weighed), _entropy(weighed.sum(axis=0))
    return Confound(
        name=" × ".join(names),
        columns=names,
        values=len(values),
        table=(*(values[: _TOP - 1] if rest else values), *(_together(others) for others in rest)),
        bits=bits,
        information=bits / entropy if entropy else None,
        one_sided=tuple(one_sided[:_TOP]),
        one_sided_values=len(one_sided),
        one_sided_share=sum(one.weight for one in one_sided) / float(weighed.sum()),
        probe=probed.by(column.codes[probed.rows, None]),
    )


def _surface(surface: npt.NDArray[np.uint8], probed: _Probed) -> Confound:
    parts = ((name, _bits(probed.counts(surface[:, place]))) for place, name in enumerate(TRAITS))
    return Confound(SURFACE, (), parts=_strongest(parts), probe=probed.by(surface))


def _strongest(parts: Any) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(parts, key=lambda part: -part[1]))


def _values(column: Column, rows: Floats, weighed: Floats) -> list[Value]:
    """The values that occur, those with most rows first."""
    made = [
        Value(name or "unknown", int(safe_rows), int(unsafe_rows), float(safe), float(unsafe))
        for name, (safe_rows, unsafe_rows), (safe, unsafe) in zip(column.values, rows, weighed, strict=True)
        if safe_rows + unsafe_rows
    ]
    return sorted(made, key=lambda one: (-one.safe_rows - one.unsafe_rows, one.value))


def _together(values: Sequence[Value]) -> Value:
    return Value(
        OTHER,
        sum(one.safe_rows for one in values),
        sum(one.unsafe_rows for one in values),
        sum(one.safe for one in values),
        sum(one.unsafe for one in values),
    )


def _entropy(weights: Floats) -> float:
    """In bits."""
    shares = weights[weights > 0] / weights.sum()
    return float(-(shares * np.log2(shares)).sum())


def _bits(cells: Floats) -> float:
    """Mutual information of value and label [values, 2]."""
    apart = _entropy(cells.sum(axis=0)) + _entropy(cells.sum(axis=1))
    return max(apart - _entropy(cells.ravel()), 0.0)
