"""The data of a fold: training rows without its sources, and the rows by which the guard made of them is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from guard.errors import DataError, need
from guard.evaluate.transfer.config import Fold, TransferConfig
from guard.jobs.atomic import atomic

TEST = "test"
_COLUMNS = ("id", "source", "kind", "label")


def write_fold(config: TransferConfig, name: str, folder: Path) -> dict[str, int]:
    """Writes train, dev and test as parquet into `folder`, with every column of the built data; the rows of each.

    Rows are drawn by a hash of their id and the seed, so a larger number keeps the rows of a smaller one, and two folds
    share what they can. DataError if the data lack a source, or if a split would have rows of one label alone.
    """
    pq = need("pyarrow.parquet", "data")
    pa = need("pyarrow", "data")
    fold, built = config.folds[name], Path(config.data)
    tables = {split: pq.read_table(built / f"{split}.parquet") for split in ("train", "dev", TEST)}
    whole = pa.concat_tables(tables.values())
    splits = (split for split, table in tables.items() for _ in range(len(table)))
    rows = [
        {**row, "split": split, "index": index}
        for index, (row, split) in enumerate(zip(whole.select(_COLUMNS).to_pylist(), splits, strict=True))
    ]
    present = {row["source"] for row in rows}
    if missing := sorted(set(fold.sources) - present):
        raise DataError(
            f"{config.data}: fold {name!r} holds out {', '.join(missing)}, of which the data have no row; sources with "
            f"rows: {', '.join(sorted(present))}"
        )
    chosen = _choose(config, fold, rows)
    for target, members in chosen.items():
        labels = {row["label"] for row in members}
        if len(labels) < 2:
            held = f" ({', '.join(sorted(labels))})" if labels else ""
            raise DataError(
                f"{config.data}: fold {name!r} has {target} rows of one label alone{held}; "
                + ("give `beside` a number of rows" if target == TEST else "hold out fewer sources")
            )
    folder.mkdir(parents=True, exist_ok=True)
    for target, members in chosen.items():
        with atomic(folder / f"{target}.parquet") as file:
            pq.write_table(whole.take([row["index"] for row in members]), file)
    return {target: len(members) for target, members in chosen.items()}


def _choose(config: TransferConfig, fold: Fold, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    def first(candidates: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
        return sorted(candidates, key=lambda row: _order(config.seed, row["id"]))[:count]

    held = [row for row in rows if row["source"] in fold.sources]
    others = [row for row in rows if row["source"] not in fold.sources]
    scored = first((row for row in held if not fold.kinds or row["kind"] in fold.kinds), config.test_rows)
    if fold.beside:
        unsafe = sum(row["label"] == "unsafe" for row in scored)
        rarer = "unsafe" if unsafe * 2 <= len(scored) else "safe"
        kinds = {row["kind"] for row in scored}
        beside = (r for r in others if r["split"] != "train" and r["label"] == rarer and r["kind"] in kinds)
        scored += first(beside, fold.beside)
    taken = {row["id"] for row in scored}
    return {
        "train": first((row for row in others if row["split"] == "train"), config.train_rows),
        "dev": first((row for row in others if row["split"] == "dev" and row["id"] not in taken), config.dev_rows),
        TEST: scored,
    }


def _order(seed: int, row: str) -> str:
    return hashlib.sha256(f"{seed}/{row}".encode()).hexdigest()
