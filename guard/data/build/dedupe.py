"""Duplicates: the same or nearly the same text across sources, and texts that carry both labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard.data.build.near import components, near_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DUPLICATE, CONFLICT, NEAR = "duplicate", "label conflict", "near-duplicate"


def duplicates(keys: NDArray[np.uint64], labels: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Per row: whether its text carries several labels, and the index of the first row with the same key.

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
    rows: NDArray[np.int64], judged: NDArray[np.uint32], classes: NDArray[np.int64], min_similarity: float
) -> NDArray[np.int64]:
    """For each of `rows` the index of the first near-duplicate of the same class, its own index if there is none.

    rows: sorted indices into `judged`, the signatures of the judged texts. classes: one per entry of `rows`.
    """
    import numpy as np

    if not len(rows):
        return rows
    pairs = [
        (np.searchsorted(rows, a), np.searchsorted(rows, b))
        for a, b in near_pairs(rows, judged, min_similarity, classes)
    ]
    return np.asarray(rows[components(len(rows), pairs)], dtype=np.int64)
