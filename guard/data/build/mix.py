"""Mixing: how much each row of a data set weighs, so that source, language or length do not tell the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from guard import schema
from guard.data.build.columns import NO_LABEL, Bools, Column, Columns, Floats, Ints, by_label, crossed
from guard.data.row import Kind
from guard.errors import ConfigError, DataError
from guard.schema import NotNegative, Share

Trait = Literal["language", "length", "kind", "source", "role", "licence"]


@dataclass(frozen=True, slots=True)
class Reweigh:
    """Weights under which a stratum (the rows that agree in all of `by`) tells nothing about the label.

    A row's factor is P(label) · P(stratum) / P(label, stratum), over the strata that hold both labels, and is kept
    within 1/`at_most` and `at_most`: what is cut there stays confounded. Rows of strata with one label only, which no
    weight can balance, take the factor `one_sided` instead. Source: Kamiran & Calders 2012.
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
    """The mixture that is learnt from. Left out, it changes nothing but the scale of the weights.

    temperature: a source weighs as much as `rows ** (1 / temperature)`: 1 as it is, 2 the square root, and the larger,
    the more alike. kinds: a factor for the rows of a kind; 0 leaves them out. category_caps: see `within_caps`.
    reweigh: done one after the other; only the last holds exactly.
    """

    __pydantic_config__ = schema.STRICT

    temperature: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    kinds: Mapping[Kind, NotNegative] = field(default_factory=dict)
    category_caps: Mapping[str, PositiveInt] = field(default_factory=dict)
    reweigh: tuple[Reweigh, ...] = ()


def weights(columns: Columns, mixing: Mixing) -> Floats:
    """[rows]: base weight x kind x temperature x reweighing, with mean 1 over the counted rows that weigh anything.

    Reweighing comes last and has the last word: sources follow the temperature only as far as it lets them. Rows
    that are not counted (dev, test) get the factors that counted rows like them have, 1 where there are none. DataError
    if rows are counted and all of them weigh nothing.
    """
    made = columns.base * _of_kinds(columns, mixing.kinds)
    if mixing.temperature != 1.0:
        made *= _of_sources(columns, made, mixing.temperature)
    for reweigh in mixing.reweigh:
        made *= reweighing(columns, made, reweigh)
    used = columns.counted & (made > 0)
    if used.any():
        return made / float(made[used].mean())
    if columns.counted.any():
        raise DataError(
            f"mixing leaves no row: all {int(columns.counted.sum())} weigh 0; "
            "raise `mixing.kinds` or `one_sided` of `mixing.reweigh`"
        )
    return made


def _of_kinds(columns: Columns, factors: Mapping[Kind, float]) -> Floats:
    if not factors:
        return np.ones(len(columns.labels))
    kind = _column(columns, "kind")
    return np.array([dict(factors).get(name, 1.0) for name in kind.values])[kind.codes]  # type: ignore[call-overload]


def _of_sources(columns: Columns, made: Floats, temperature: float) -> Floats:
    """Size ** (1 / temperature - 1), scaled to leave the sum of weights as it is; a source's size counts used rows."""
    source = _column(columns, "source")
    used = columns.counted & (made > 0)
    sizes = np.bincount(source.codes[used], minlength=len(source.values)).astype(np.float64)
    factors = np.where(sizes > 0, np.maximum(sizes, 1.0) ** (1.0 / temperature - 1.0), 1.0)
    before = np.bincount(source.codes[used], made[used], minlength=len(sizes))
    if total := float(before @ factors):
        factors = np.where(sizes > 0, factors * (before.sum() / total), 1.0)
    return factors[source.codes]


def reweighing(columns: Columns, made: Floats, reweigh: Reweigh) -> Floats:
    """[rows]: the factor of each row's stratum and label, given the weights `made` so far."""
    strata = crossed([_column(columns, name) for name in reweigh.by])
    observed = by_label(strata, columns, made)
    both: Bools = np.all(observed > 0, axis=1)
    total = observed[both].sum()
    expected = np.outer(observed.sum(axis=1), observed[both].sum(axis=0) / (total or 1.0))
    factors = np.ones_like(observed)
    np.divide(expected, observed, out=factors, where=both[:, None])
    np.clip(factors, 1.0 / reweigh.at_most, reweigh.at_most, out=factors)
    factors[~both & (observed.sum(axis=1) > 0)] = reweigh.one_sided
    found = factors[strata.codes, np.maximum(columns.labels, 0)]
    found[columns.labels == NO_LABEL] = 1.0
    return found


def within_caps(rows: Ints, codes: Column, ranks: Floats | Ints, caps: Mapping[str, int]) -> Bools:
    """[rows of the data set]: False for the unsafe rows that are more than `caps` allows of their categories.

    `rows` and `codes` list each (row, category) of the unsafe rows; `ranks` [rows of the data set] decides which stay.
    Of each category the `caps[category]` rows of lowest rank have room (all rows, where it has no cap), and a row stays
    if one of its categories has room for it. So a category stays above its cap only by rows that another one holds, a
    higher cap drops no row that a lower one kept, and rows of unknown category always stay.
    """
    kept = np.ones(len(ranks), np.bool_)
    kept[rows] = False
    for place, name in enumerate(codes.values):
        members = rows[codes.codes == place]
        cap = caps.get(name, len(members))
        if cap < len(members):
            members = members[np.argsort(ranks[members], kind="stable")[:cap]]
        kept[members] = True
    return kept


def unknown_categories(mixing: Mixing, codes: Sequence[str]) -> None:
    """ConfigError if a cap is for a category that is not among the policy's `codes`."""
    if unknown := [name for name in mixing.category_caps if name not in codes]:
        raise ConfigError(f"mixing.category_caps: {', '.join(unknown)}: not in the policy; it has: {', '.join(codes)}")


def _column(columns: Columns, name: str) -> Column:
    if name not in columns.of:
        raise DataError(f"mixing needs the column {name}; these are known: {', '.join(columns.of) or 'none'}")
    return columns.of[name]
