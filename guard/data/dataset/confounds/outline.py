"""The outline of a stored split: its columns, and the surfaces of a sample; texts are measured, never kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guard.data.build.columns import LABELS, NO_LABEL, ColumnBuilder, Columns, Floats, lengths
from guard.data.dataset.confounds.measure import Sample
from guard.data.dataset.confounds.surface import TRAITS, surfaces
from guard.data.dataset.open import batches
from guard.errors import need

_STORED = ("source", "kind", "language", "role", "licence")


@dataclass(frozen=True, slots=True, repr=False)
class Outline:
    """Every labelled row of a split counts, with base 1; `weights` are those that the build stored."""

    columns: Columns
    weights: Floats


def read_outline(path: Path) -> Outline:
    """The outline of a parquet file that a build wrote; DataError if it is none."""
    compute = need("pyarrow.compute", "data")
    growing = {name: ColumnBuilder() for name in (*_STORED, "label")}
    weights, characters = [np.zeros(0)], [np.zeros(0, np.int64)]
    for batch in batches(path, (*growing, "weight", "messages")):
        for name, column in growing.items():
            column.extend(batch.column(name).to_pylist())
        weights.append(batch.column("weight").to_numpy(zero_copy_only=False))
        characters.append(compute.utf8_length(_judged(batch)).fill_null(0).to_numpy(zero_copy_only=False))
    of = {name: column.column() for name, column in growing.items()}
    label = of.pop("label")
    labels = np.array([LABELS.get(name, NO_LABEL) for name in label.values], np.int8)[label.codes]
    of["length"] = lengths(np.concatenate(characters))
    return Outline(Columns(labels, labels != NO_LABEL, np.ones(len(labels)), of), np.concatenate(weights))


def read_sample(path: Path, rows: npt.NDArray[np.int64]) -> Sample:
    """These rows (in ascending order) of the same file as probes want them."""
    clusters = ColumnBuilder()
    surface = [np.zeros((0, len(TRAITS)), np.uint8)]
    start = 0
    for batch in batches(path, ("cluster", "messages")):
        wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)] - start
        start += batch.num_rows
        clusters.extend(batch.column("cluster").take(wanted).to_pylist())
        surface.append(surfaces(text or "" for text in _judged(batch).take(wanted).to_pylist()))
    return Sample(rows, clusters.column().codes, np.concatenate(surface))


def _judged(batch: Any) -> Any:
    """The content of the last message of each row, null where there is none."""
    compute, arrow = need("pyarrow.compute", "data"), need("pyarrow", "data")
    messages = batch.column("messages")
    ends = messages.offsets.to_numpy()
    last = np.where(ends[1:] > ends[:-1], ends[1:] - 1, -1)
    return compute.struct_field(messages.values, "content").take(arrow.array(last, mask=last < 0))
