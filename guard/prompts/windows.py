"""Overlapping windows over a token sequence: every token is read, nothing is truncated."""

from __future__ import annotations


def windows(total: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open (start, end) ranges of at most `size` that cover 0…total, neighbours sharing at least `overlap`.

    The last window is as long as the others, so that a short remainder is never judged without its surroundings.
    An empty sequence has one empty window.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"need size >= 1 and 0 <= overlap < size (given: size {size}, overlap {overlap})")
    if total <= size:
        return [(0, total)]
    starts = list(range(0, total - size, size - overlap))
    return [(start, start + size) for start in starts] + [(total - size, total)]
