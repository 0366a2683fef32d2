"""Duplicates: repeats inside a source, the same text across sources, and texts that carry both labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from guard.data.fingerprint import text_key
from guard.data.row import Drop, Row

REPEATED, DUPLICATE, CONFLICT = "repeated in source", "duplicate", "label conflict"


def drop_repeats(rows: Iterable[Row]) -> tuple[list[Row], list[Drop]]:
    """The first row of each (prompt, response, label, language) of one source, and the repeats."""
    seen: set[tuple[str | None, ...]] = set()
    kept: list[Row] = []
    drops: list[Drop] = []
    for row in rows:
        key = (row.prompt, row.response, row.label, row.language)
        if key in seen:
            drops.append(Drop(row, REPEATED))
        else:
            seen.add(key)
            kept.append(row)
    return kept, drops


def drop_duplicates(rows: Iterable[Row]) -> tuple[list[Row], list[Drop]]:
    """The first row of each normalised text and kind; a text with both labels is dropped everywhere.

    Neither label of such a text can be trusted, and keeping the first would make the order of sources decide.
    """
    rows = list(rows)
    labels: dict[tuple[str, ...], set[str]] = defaultdict(set)
    keys = [_key(row) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        labels[key].add(row.label)
    seen: set[tuple[str, ...]] = set()
    kept: list[Row] = []
    drops: list[Drop] = []
    for key, row in zip(keys, rows, strict=True):
        if len(labels[key]) > 1:
            drops.append(Drop(row, CONFLICT))
        elif key in seen:
            drops.append(Drop(row, DUPLICATE))
        else:
            seen.add(key)
            kept.append(row)
    return kept, drops


def _key(row: Row) -> tuple[str, ...]:
    return (row.kind, text_key(row.prompt), "" if row.response is None else text_key(row.response))
