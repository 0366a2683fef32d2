"""Mixing: the weight of each row, chosen so that source, language or length do not predict the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from guard import schema
from guard.data.build.columns import NO_LABEL, Bools, Column, Columns, Floats, Ints, by_label, cross
from guard.data.row import Kind
from guard.errors import ConfigError, DataError
from guard.schema import NotNegative, Share

Trait = Literal["language", "length", "kind", "source", "role", "licence"]


@dataclass(frozen=True, slots=True)
class Reweigh:
    """Reweighing that makes a stratum (the rows that agree in all of `by`) independent of the label.

    A row's factor is P(label) · P(stratum) / P(label, stratum), over the strata that hold both labels, clipped to
    [1/`at_most`, `at_most`]: where it is clipped, some confounding remains. Rows of strata with one label only, which
    no weight can balance, take the factor `one_sided` instead. Source: Kamiran & Calders 2012.
    """

    __pydantic_config__ = schema.STRICT

    by: Annotated[tuple[Trait, ...], Field(min_length=1)] = ("language", "length", "kind")
    at_most: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 4.0
    one_sided: Share = 1.0

    def __post_init__(self) -> None:
        if len(set(self.by)) < len(self.by):
            raise schema.Misplaced("names a column twice", "by")


@dataclass(frozen=True, slots=True)
class Mixing:
    """The training mixture. The default changes nothing but the scale of the weights.

    temperature: the total weight of a source is proportional to `rows ** (1 / temperature)`: 1 keeps its size, 2 takes
    the square root; larger values make sources more equal. kinds: a factor for the rows of a kind; 0 leaves them out.
    category_caps: see `within_caps`. reweigh: applied in order; only the last holds exactly.
    """

    __pydantic_config__ = schema.STRICT

    temperature: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    kinds: Mapping[Kind, NotNegative] = field(default_factory=dict)
    category_caps: Mapping[str, PositiveInt] = field(default_factory=dict)
    reweigh: tuple[Reweigh, ...] = ()


def weights(columns: Columns, mixing: Mixing) -> Floats:
    """[rows]: base weight x kind x temperature x reweighing, with mean 1 over the counted rows of positive weight.

    Reweighing comes last and takes precedence: sources follow the temperature only as far as it allows. Rows that are
    not counted (dev, test) get the factors of counted rows like them, 1 where there are none. DataError if there are
    counted rows and all of them have weight 0.
    """
    result = columns.base * _kind_factors(columns, mixing.kinds)
    if mixing.temperature != 1.0:
        result *= _temperature_factors(columns, result, mixing.temperature)
    for reweigh in mixing.reweigh:
        result *= reweighing(columns, result, reweigh)
    used = columns.counted & (result > 0)
    if used.any():
        return result / float(result[used].mean())
    if columns.counted.any():
        raise DataError(
            f"mixing leaves no row: all {int(columns.counted.sum())} weigh 0; "
            "raise `mixing.kinds` or `one_sided` of `mixing.reweigh`"
        )
    return result


def _kind_factors(columns: Columns, factors: Mapping[Kind, float]) -> Floats:
    if not factors:
        return np.ones(len(columns.labels))
    kind = _column(columns, "kind")
    return np.array([dict(factors).get(name, 1.0) for name in kind.values])[kind.codes]  # type: ignore[call-overload]


def _temperature_factors(columns: Columns, weights: Floats, temperature: float) -> Floats:
    """Size ** (1 / temperature - 1), scaled to preserve the sum of weights; the size of a source is its used rows."""
    source = _column(columns, "source")
    used = columns.counted & (weights > 0)
    sizes = np.bincount(source.codes[used], minlength=len(source.values)).astype(np.float64)
    factors = np.where(sizes > 0, np.maximum(sizes, 1.0) ** (1.0 / temperature - 1.0), 1.0)
    before = np.bincount(source.codes[used], weights[used], minlength=len(sizes))
    if total := float(before @ factors):
        factors = np.where(sizes > 0, factors * (before.sum() / total), 1.0)
    return factors[source.codes]


def reweighing(columns: Columns, weights: Floats, reweigh: Reweigh) -> Floats:
    """[rows]: the factor of each row by its stratum and label, given the `weights` so far."""
    strata = cross([_column(columns, name) for name in reweigh.by])
    observed = by_label(strata, columns, weights)
    both: Bools = np.all(observed > 0, axis=1)
    total = observed[both].sum()
    expected = np.outer(observed.sum(axis=1), observed[both].sum(axis=0) / (total or 1.0))
    factors = np.ones_like(observed)
    np.divide(expected, observed, out=factors, where=both[:, None])
    np.clip(factors, 1.0 / reweigh.at_most, reweigh.at_most, out=factors)
    factors[~both & (observed.sum(axis=1) > 0)] = reweigh.one_sided
    result = factors[strata.codes, np.maximum(columns.labels, 0)]
    result[columns.labels == NO_LABEL] = 1.0
    return result


def within_caps(rows: Ints, codes: Column, ranks: Floats | Ints, caps: Mapping[str, int]) -> Bools:
    """[rows of the data set]: False for the unsafe rows beyond the `caps` of their categories.

    `rows` and `codes` list each (row, category) of the unsafe rows; `ranks` [rows of the data set] decides which stay.
    Each category has room for its `caps[category]` rows of lowest rank (for all rows if it has no cap), and a row stays
    if one of its categories has room for it. So a category exceeds its cap only by rows that another category holds, a
    higher cap drops no row that a lower one kept, and rows of unknown category always stay.
    """
    kept = np.ones(len(ranks), np.bool_)
    kept[rows] = False
    for code, name in enumerate(codes.values):
        members = rows[codes.codes == code]
        cap = caps.get(name, len(members))
        if cap < len(members):
            members = members[np.argsort(ranks[members], kind="stable")[:cap]]
        kept[members] = True
    return kept


def check_category_caps(mixing: Mixing, codes: Sequence[str]) -> None:
    """ConfigError if a cap names a category that is not among the policy's `codes`."""
    if unknown := [name for name in mixing.category_caps if name not in codes]:
        raise ConfigError(f"mixing.category_caps: {', '.join(unknown)}: not in the policy; it has: {', '.join(codes)}")


def _column(columns: Columns, name: str) -> Column:
    if name not in columns.of:
        raise DataError(f"mixing needs the column {name}; available: {', '.join(columns.of) or 'none'}")
    return columns.of[name]
