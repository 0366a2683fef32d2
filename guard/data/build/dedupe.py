"""Duplicates: repeats inside a source, the same or nearly the same text across sources, texts with both labels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from guard.data.build.near import components, near_pairs
from guard.data.ingest.fingerprint import text_key
from guard.data.row import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REPEATED, DUPLICATE, CONFLICT, NEAR = "repeated in source", "duplicate", "label conflict", "near-duplicate"


def hash64(*parts: str | None) -> int:
    """64 bits of the SHA-256 of the parts; None differs from every text."""
    told = "\x00".join("\x01" if part is None else part for part in parts)
    return int.from_bytes(hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def repeat_key(row: Row) -> int:
    """What repeats of one row in one source share: texts, label and language as they were read."""
    return hash64(row.prompt, row.response, row.rejected, row.label, row.language)


def duplicate_key(row: Row) -> int:
    """What duplicates share, whatever their source and label: the normalised texts and the kind."""
    texts = (row.prompt, row.response, row.rejected)
    return hash64(row.kind, *(None if text is None else text_key(text) for text in texts))


def duplicates(keys: NDArray[np.uint64], labels: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(whether the row's text carries several labels, the index of the first row of the same key) of each row.

    Neither label of a text with both can be trusted, and keeping the first would make the order of sources decide.
    """
    import numpy as np

    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    lowest = np.full(len(first), np.iinfo(np.int8).max, dtype=np.int8)
    highest = np.full(len(first), np.iinfo(np.int8).min, dtype=np.int8)
    np.minimum.at(lowest, group, labels)
    np.maximum.at(highest, group, labels)
    return (lowest != highest)[group], first[group]


def near_duplicates(
    rows: NDArray[np.int64], judged: NDArray[np.uint32], classes: NDArray[np.int64], likeness: float
) -> NDArray[np.int64]:
    """For each of `rows` the index of the first row of one class that is nearly the same, its own if there is none.

    `rows` are sorted indices into `judged`, the signatures of the judged texts; `classes` belongs to them.
    """
    import numpy as np

    if not len(rows):
        return rows
    pairs = [
        (np.searchsorted(rows, a), np.searchsorted(rows, b)) for a, b in near_pairs(rows, judged, likeness, classes)
    ]
    return np.asarray(rows[components(len(rows), pairs)], dtype=np.int64)
