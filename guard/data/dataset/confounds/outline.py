"""The outline of a stored split: its columns, and the surface features of a sample; texts are measured, never kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guard.data.build.columns import LABELS, NO_LABEL, ColumnBuilder, Columns, Floats, lengths
from guard.data.dataset.confounds.measure import Sample
from guard.data.dataset.confounds.surface import FEATURES, surface_matrix
from guard.data.dataset.open import batches
from guard.errors import need

_STORED = ("source", "kind", "language", "role", "licence")


@dataclass(frozen=True, slots=True, repr=False)
class Outline:
    """The columns of a split, in which every labelled row is counted with base 1, and the stored weights."""

    columns: Columns
    weights: Floats


def read_outline(path: Path) -> Outline:
    """The outline of a parquet file of a built data set; DataError if it is not one."""
    compute = need("pyarrow.compute", "data")
    builders = {name: ColumnBuilder() for name in (*_STORED, "label")}
    weights, characters = [np.zeros(0)], [np.zeros(0, np.int64)]
    for batch in batches(path, (*builders, "weight", "messages")):
        for name, builder in builders.items():
            builder.extend(batch.column(name).to_pylist())
        weights.append(batch.column("weight").to_numpy(zero_copy_only=False))
        characters.append(compute.utf8_length(_judged(batch)).fill_null(0).to_numpy(zero_copy_only=False))
    of = {name: builder.column() for name, builder in builders.items()}
    label = of.pop("label")
    labels = np.array([LABELS.get(name, NO_LABEL) for name in label.values], np.int8)[label.codes]
    of["length"] = lengths(np.concatenate(characters))
    return Outline(Columns(labels, labels != NO_LABEL, np.ones(len(labels)), of), np.concatenate(weights))


def read_sample(path: Path, rows: npt.NDArray[np.int64]) -> Sample:
    """The sample of these rows (in ascending order) of the same file, for the probes."""
    clusters = ColumnBuilder()
    features = [np.zeros((0, len(FEATURES)), np.uint8)]
    start = 0
    for batch in batches(path, ("cluster", "messages")):
        selected = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)] - start
        start += batch.num_rows
        clusters.extend(batch.column("cluster").take(selected).to_pylist())
        features.append(surface_matrix(text or "" for text in _judged(batch).take(selected).to_pylist()))
    return Sample(rows, clusters.column().codes, np.concatenate(features))


def _judged(batch: Any) -> Any:
    """The content of the last message of each row, null if there is none."""
    compute, arrow = need("pyarrow.compute", "data"), need("pyarrow", "data")
    messages = batch.column("messages")
    ends = messages.offsets.to_numpy()
    last = np.where(ends[1:] > ends[:-1], ends[1:] - 1, -1)
    return compute.struct_field(messages.values, "content").take(arrow.array(last, mask=last < 0))
