"""Clusters: rows that must stay in one split, because they say nearly the same or belong together in their source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard.data.build.near import components, near_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR = 0.7  # estimated Jaccard similarity from which two prompts are near-duplicates


def clusters(
    prompt_keys: NDArray[np.uint64],
    group_rows: NDArray[np.int64],
    group_keys: NDArray[np.uint64],
    prompts: NDArray[np.uint32],
) -> NDArray[np.int64]:
    """The cluster of each row, named by the smallest row index in it.

    Rows are joined by an identical prompt, by a group key of their source (`group_keys[i]` belongs to row
    `group_rows[i]`), or by a near-duplicate prompt, by the signatures `prompts`. Responses do not join rows: refusals
    are alike everywhere. A group key that equals a prompt key joins as well.
    """
    import numpy as np

    rows = np.arange(len(prompt_keys))
    keys = np.concatenate([prompt_keys, group_keys])
    owners = np.concatenate([rows, group_rows])
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    distinct = np.unique(prompt_keys, return_index=True)[1]
    distinct.sort()
    pairs = [(owners[first][group], owners), *near_pairs(distinct, prompts, NEAR)]
    return components(len(prompt_keys), pairs)
