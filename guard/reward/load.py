"""Reward rows from files: JSONL, CSV and Parquet rows, and the preference pairs of a built data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guard.data.dataset.open import open_dataset
from guard.errors import DataError, InvalidInput
from guard.jobs.rows import open_rows
from guard.reward.row import RewardRow, parse_row
from guard.reward.shapes import canonical

SHOWN = 5  # broken rows that an error lists
_SHARD = 1000
_MANIFEST = "manifest.json"


def load_rows(path: Path, split: str = "train") -> list[RewardRow]:
    """The reward rows of a file, or the pairs of one split of a folder that `guard data build` made, in their order.

    DataError if there are none, or with the first broken ones, by their place and never with their text.
    """
    rows: list[RewardRow] = []
    broken: list[str] = []
    for file in _files(path, split):
        for place, row in read_rows(file):
            if isinstance(row, RewardRow):
                rows.append(row)
            else:
                broken.append(f"{place}: {row}")
    if broken:
        more = f"\n… and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        shown = "\n".join(broken[:SHOWN])
        raise DataError(f"{len(broken)} of {len(rows) + len(broken)} rows are broken:\n{shown}{more}")
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def read_rows(file: Path) -> Iterator[tuple[str, RewardRow | InvalidInput]]:
    """Each row of a file with its place, or why it is none."""
    for shard in open_rows(file, also=None).shards(_SHARD):
        for index in range(len(shard)):
            place = f"{file}:{shard.number(index)}"
            try:
                yield place, parse_row(canonical(shard.row(index)))
            except InvalidInput as problem:
                yield place, problem


def held_out(rows: Sequence[RewardRow], share: float, seed: int = 0) -> tuple[list[RewardRow], list[RewardRow]]:
    """(train, held out): whole prompts are held out, chosen by a seeded hash, so that adding rows moves no others."""
    train: list[RewardRow] = []
    kept_apart: list[RewardRow] = []
    for row in rows:
        value = int.from_bytes(hashlib.sha256(f"{seed}/{row.prompt_key}".encode()).digest()[:8]) / 2**64
        (kept_apart if value < share else train).append(row)
    return train, kept_apart


def require(rows: Sequence[RewardRow], columns: Sequence[str], what: str) -> None:
    """DataError unless every row has the columns; shows the columns, and never the text, of the first that has not.

    `a|b` is a column of either name, `a+b|c` are both of the first, or the third.
    """
    for row in rows:
        if missing := lacking(row, columns):
            have = ", ".join(f"{name} ({shape(getattr(row, name))})" for name in row.columns)
            wanted = " and ".join(name.replace("+", " with ").replace("|", " or ") for name in missing)
            raise DataError(f"{what} needs the column {wanted}, which row {row.id[:40]!r} lacks; it has: {have}")


def lacking(row: RewardRow, columns: Sequence[str]) -> list[str]:
    """The columns that a row has not."""
    return [name for name in columns if not any({*each.split("+")} <= {*row.columns} for each in name.split("|"))]


def shape(value: Any) -> str:
    """What a value is, without showing it."""
    match value:
        case str():
            return f"{len(value)} characters"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}"
        case tuple() | frozenset() | list():
            return f"{len(value)} entries"
        case dict():
            return ", ".join(sorted(map(str, value)))
    return type(value).__name__


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not (path / _MANIFEST).is_file():
        raise DataError(f"{path}: no such file, and no folder made by `guard data build`")
    pairs = open_dataset(path).pairs
    if (name := f"pairs-{split}") not in pairs:
        raise DataError(f"{path}: has no {name}.parquet; it has: {', '.join(pairs) or 'no preference pairs'}")
    return [pairs[name]]
