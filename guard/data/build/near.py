"""Near-duplicates: MinHash signatures of texts, and the similar pairs that locality-sensitive hashing finds.

Method: Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", ch. 3. Signatures are computed by `rensa`. Each text is compared with the first of its
bucket only, so that time and memory stay linear in the number of texts even where thousands are alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from guard.data.ingest.fingerprint import text_key
from guard.errors import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERMUTATIONS = 64
BAND_ROWS = 4  # 16 bands of 4: a pair of Jaccard similarity 0.7 becomes a candidate with p = 0.99, one of 0.5 with 0.64
SHINGLE_WORDS = 3
SEED = 20240501
CHUNK = 100_000  # pairs compared at a time
# Chinese and Japanese have no spaces: one character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures over word 3-shingles of the normalised texts, (texts, PERMUTATIONS)."""
    import numpy as np

    digests = need("rensa", "data").RMinHash.digests_from_token_sets(
        [shingles(text) for text in texts], PERMUTATIONS, SEED
    )
    return np.array(digests, dtype=np.uint32).reshape(len(texts), PERMUTATIONS)


def shingles(text: str) -> list[str]:
    """The word 3-grams of a normalised text; the whole text if it is shorter."""
    words = _WORD.findall(text_key(text)) or [text]
    return [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))]


def near_pairs(
    rows: NDArray[np.int64],
    signatures: NDArray[np.uint32],
    min_similarity: float,
    classes: NDArray[np.int64] | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """(first, other) indices into `signatures` of near-duplicate pairs among the sorted `rows`; first < other.

    min_similarity: an estimated Jaccard similarity. With `classes` (one per entry of `rows`) only rows of one class are
    compared. `signatures` may be a memory map: it is read one band, and then CHUNK pairs, at a time.
    """
    import numpy as np

    for start in range(0, PERMUTATIONS, BAND_ROWS):
        band = np.zeros(len(rows), dtype=np.uint64) if classes is None else classes.astype(np.uint64)
        for column in range(start, start + BAND_ROWS):
            # An odd factor and a rotation: 64-bit products wrap on purpose.
            band = (band ^ signatures[rows, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            band ^= band >> np.uint64(29)
        _, leader, bucket = np.unique(band, return_index=True, return_inverse=True)
        first = rows[leader[bucket]]
        others = np.flatnonzero(first != rows)
        for begin in range(0, len(others), CHUNK):
            chunk = others[begin : begin + CHUNK]
            a, b = first[chunk], rows[chunk]
            similar = (signatures[a] == signatures[b]).mean(axis=1) >= min_similarity
            if classes is not None:
                similar &= classes[leader[bucket[chunk]]] == classes[chunk]
            yield a[similar], b[similar]


def components(count: int, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> NDArray[np.int64]:
    """For each of 0..count-1 the smallest index in its connected component of the graph with the edges `pairs`."""
    import numpy as np

    sparse = need("scipy.sparse", "data")
    graph = need("scipy.sparse.csgraph", "data")
    a = np.concatenate([np.zeros(0, dtype=np.int64), *(first for first, _ in pairs)])
    b = np.concatenate([np.zeros(0, dtype=np.int64), *(other for _, other in pairs)])
    matrix = sparse.coo_matrix((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count)).tocsr()
    _, component = graph.connected_components(matrix, directed=False)
    smallest = np.full(component.max(initial=-1) + 1, count, dtype=np.int64)
    np.minimum.at(smallest, component, np.arange(count))
    return np.asarray(smallest[component], dtype=np.int64)
