"""Clusters: rows that must not be parted by a split, because they say nearly the same or belong together by source."""

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
    """The cluster of each row, named by the smallest index of a row in it.

    Rows are joined by an identical prompt, a group key of their source (`group_keys[i]` is one of row `group_rows[i]`),
    or a near-duplicate prompt, by the signatures `prompts`. Responses do not join: refusals are alike everywhere. A
    group key and a prompt key that are equal join as well.
    """
    import numpy as np

    everyone = np.arange(len(prompt_keys))
    keys = np.concatenate([prompt_keys, group_keys])
    owners = np.concatenate([everyone, group_rows])
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    distinct = np.unique(prompt_keys, return_index=True)[1]
    distinct.sort()
    pairs = [(owners[first][group], owners), *near_pairs(distinct, prompts, NEAR)]
    return components(len(prompt_keys), pairs)
