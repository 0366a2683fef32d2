"""A labelled data set without its texts, as arrays: what mixing weighs and the confound report counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

SAFE, UNSAFE, NO_LABEL = 0, 1, -1
LABELS = {"safe": SAFE, "unsafe": UNSAFE}  # any other label is NO_LABEL
_LONGEST = 14  # the last bin of lengths: 16,384 characters and more


@dataclass(frozen=True, slots=True, repr=False)
class Column:
    """One value a row: `codes` [rows] are places in `values`, of the smallest unsigned type that holds them."""

    values: tuple[str, ...]
    codes: Ints


@dataclass(frozen=True, slots=True, repr=False)
class Columns:
    """What is known of each row besides its text; all arrays are of one length.

    labels: SAFE, UNSAFE or NO_LABEL (pairs). counted: the rows that are learnt from, all of them with a label; the
    others neither count nor move a weight. base: the weight before mixing. of: columns by name, such as source, kind,
    language, length (see `lengths`), role, licence.
    """

    labels: npt.NDArray[np.int8]
    counted: Bools
    base: Floats
    of: Mapping[str, Column]

    def __post_init__(self) -> None:
        rows = len(self.labels)
        arrays = {"counted": self.counted, "base": self.base, **{name: one.codes for name, one in self.of.items()}}
        for name, array in arrays.items():
            if len(array) != rows:
                raise ValueError(f"column {name}: {len(array)} rows, but there are {rows} labels")
        if bad := int((self.counted & (self.labels == NO_LABEL)).sum()):
            raise ValueError(f"{bad} rows without a label are counted; a row that counts is safe or unsafe")

    @property
    def unsafe(self) -> Bools:
        return np.asarray(self.labels == UNSAFE)


class GrowingColumn:
    """A column that is read batch by batch; it keeps each distinct value once and four bytes a row."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._parts: list[npt.NDArray[np.uint32]] = []

    def extend(self, values: Iterable[str | None]) -> None:
        places = self._places
        batch = [places.setdefault(value or "", len(places)) for value in values]
        self._parts.append(np.array(batch, dtype=np.uint32))

    def column(self) -> Column:
        """The column so far, its values in alphabetical order: the order of the rows changes no code."""
        values = sorted(self._places)
        codes = np.concatenate(self._parts) if self._parts else np.zeros(0, np.uint32)
        ranks = np.empty(len(values), np.min_scalar_type(max(len(values) - 1, 0)))
        ranks[[self._places[value] for value in values]] = np.arange(len(values))
        return Column(tuple(values), ranks[codes])


def encode(values: Iterable[str | None]) -> Column:
    """The column of `values`, with an empty text for None."""
    growing = GrowingColumn()
    growing.extend(values)
    return growing.column()


def lengths(characters: Sequence[int] | Ints) -> Column:
    """The length of each judged text in bins that double: 0-1, 2-3, 4-7 … 16384+ characters."""
    exponent = np.frexp(np.asarray(characters, dtype=np.float64))[1]
    names = ["0-1", *(f"{1 << bin}-{(2 << bin) - 1}" for bin in range(1, _LONGEST)), f"{1 << _LONGEST}+"]
    return Column(tuple(names), np.clip(exponent - 1, 0, _LONGEST).astype(np.uint8))


def crossed(columns: Sequence[Column]) -> Column:
    """The combinations that occur, each as one value: `en × prompt`."""
    if len(columns) == 1:
        return columns[0]
    shape = [max(len(column.values), 1) for column in columns]
    keys = np.zeros(len(columns[0].codes), np.int64)
    for column, size in zip(columns, shape, strict=True):
        keys = keys * size + column.codes
    present, codes = np.unique(keys, return_inverse=True)
    parts = np.unravel_index(present, shape)
    values = (
        " × ".join(column.values[place] for column, place in zip(columns, places, strict=True))
        for places in zip(*parts, strict=True)
    )
    return Column(tuple(values), codes.astype(np.min_scalar_type(max(len(present) - 1, 0))))


def by_label(column: Column, columns: Columns, weights: Floats | None = None) -> Floats:
    """[values, 2]: the counted rows, or their `weights`, of each value that are safe and that are unsafe."""
    counted = columns.counted
    cells = column.codes[counted].astype(np.int64) * 2 + columns.labels[counted]
    weighed = None if weights is None else weights[counted]
    return np.bincount(cells, weighed, minlength=2 * len(column.values)).reshape(-1, 2).astype(np.float64)
