"""A labelled data set without its texts, as arrays: the input of mixing and of the confound report."""

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
    """A dictionary-encoded column: `codes` [rows] index `values`, in the smallest unsigned type that holds them."""

    values: tuple[str, ...]
    codes: Ints


@dataclass(frozen=True, slots=True, repr=False)
class Columns:
    """The attributes of each row besides its text; all arrays have one length.

    labels: SAFE, UNSAFE or NO_LABEL (pairs). counted: the rows to train on, all of them labelled; the others neither
    count nor change a weight. base: the weight before mixing. of: columns by name, such as source, kind, language,
    length (see `lengths`), role, licence.
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
            raise ValueError(f"{bad} rows without a label are counted; a counted row must be safe or unsafe")

    @property
    def unsafe(self) -> Bools:
        return np.asarray(self.labels == UNSAFE)


class ColumnBuilder:
    """Encodes a column batch by batch; it keeps each distinct value once and four bytes per row."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._batches: list[npt.NDArray[np.uint32]] = []

    def extend(self, values: Iterable[str | None]) -> None:
        codes = self._codes
        batch = [codes.setdefault(value or "", len(codes)) for value in values]
        self._batches.append(np.array(batch, dtype=np.uint32))

    def column(self) -> Column:
        """The column so far, with sorted values: codes do not depend on the order of the rows."""
        values = sorted(self._codes)
        codes = np.concatenate(self._batches) if self._batches else np.zeros(0, np.uint32)
        ranks = np.empty(len(values), np.min_scalar_type(max(len(values) - 1, 0)))
        ranks[[self._codes[value] for value in values]] = np.arange(len(values))
        return Column(tuple(values), ranks[codes])


def encode(values: Iterable[str | None]) -> Column:
    """The column of `values`, with an empty string for None."""
    builder = ColumnBuilder()
    builder.extend(values)
    return builder.column()


def lengths(characters: Sequence[int] | Ints) -> Column:
    """The length of each judged text in doubling bins: 0-1, 2-3, 4-7 … 16384+ characters."""
    exponent = np.frexp(np.asarray(characters, dtype=np.float64))[1]
    names = ["0-1", *(f"{1 << bin}-{(2 << bin) - 1}" for bin in range(1, _LONGEST)), f"{1 << _LONGEST}+"]
    return Column(tuple(names), np.clip(exponent - 1, 0, _LONGEST).astype(np.uint8))


def cross(columns: Sequence[Column]) -> Column:
    """The combinations of values that occur, each as one value: `en × prompt`."""
    if len(columns) == 1:
        return columns[0]
    shape = [max(len(column.values), 1) for column in columns]
    keys = np.zeros(len(columns[0].codes), np.int64)
    for column, size in zip(columns, shape, strict=True):
        keys = keys * size + column.codes
    present, codes = np.unique(keys, return_inverse=True)
    parts = np.unravel_index(present, shape)
    values = (
        " × ".join(column.values[code] for column, code in zip(columns, combination, strict=True))
        for combination in zip(*parts, strict=True)
    )
    return Column(tuple(values), codes.astype(np.min_scalar_type(max(len(present) - 1, 0))))


def by_label(column: Column, columns: Columns, weights: Floats | None = None) -> Floats:
    """[values, 2]: the number of counted rows, or the sum of their `weights`, that are safe and unsafe per value."""
    counted = columns.counted
    cells = column.codes[counted].astype(np.int64) * 2 + columns.labels[counted]
    cell_weights = None if weights is None else weights[counted]
    return np.bincount(cells, cell_weights, minlength=2 * len(column.values)).reshape(-1, 2).astype(np.float64)
