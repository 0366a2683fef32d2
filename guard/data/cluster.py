"""Clusters: rows that must not be parted by a split, because they say nearly the same or belong together by source."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

from guard.data.fingerprint import text_key
from guard.data.row import Row

PERMUTATIONS = 64
BAND_ROWS = 4  # 16 bands of 4: a pair of Jaccard similarity 0.7 becomes a candidate with p = 0.99, one of 0.5 with 0.64
NEAR = 0.7  # estimated Jaccard similarity from which two prompts are near-duplicates
SHINGLE_WORDS = 3
SEED = 20240501
# Chinese and Japanese have no spaces: one character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def clusters(rows: Sequence[Row]) -> list[str]:
    """The cluster of each row, named by the smallest row id in it; independent of the rows' order.

    Rows are joined by an identical prompt, a group key of their source, or a near-duplicate prompt (MinHash over word
    3-shingles, candidates by banding). Responses do not join: refusals are alike everywhere.
    """
    joined = _Sets(len(rows))
    owner: dict[Hashable, int] = {}
    for index, row in enumerate(rows):
        for key in (text_key(row.prompt), *row.groups):
            joined.join(index, owner.setdefault(key, index))
    prompts = sorted({text_key(row.prompt) for row in rows})
    for first, second in _near_pairs(prompts):
        joined.join(owner[prompts[first]], owner[prompts[second]])
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(rows)):
        members[joined.find(index)].append(index)
    names = {root: min(rows[index].id for index in indices) for root, indices in members.items()}
    return [names[joined.find(index)] for index in range(len(rows))]


class _Sets:
    """Disjoint sets of 0..size-1 (union-find with path halving)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        a, b = self.find(first), self.find(second)
        self._parent[max(a, b)] = min(a, b)


def _near_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Near pairs among texts whose signatures agree in a whole band, each text with the first of its bucket."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    # Multiply-shift: 64-bit products wrap on purpose, and their high half is an even hash of the 32-bit shingle.
    factor, offset = rng.integers(0, 1 << 63, (2, PERMUTATIONS), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    for index, text in enumerate(texts):
        hashes = np.array([zlib.crc32(shingle.encode()) for shingle in _shingles(text)], dtype=np.uint64)
        signatures[index] = ((hashes[:, None] * factor + offset) >> np.uint64(32)).min(axis=0)
    for start in range(0, PERMUTATIONS, BAND_ROWS):
        first: dict[bytes, int] = {}
        band = np.ascontiguousarray(signatures[:, start : start + BAND_ROWS])
        for index in range(len(texts)):
            other = first.setdefault(band[index].tobytes(), index)
            if other != index and (signatures[other] == signatures[index]).mean() >= NEAR:
                yield other, index


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text) or [text]
    return {" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}
