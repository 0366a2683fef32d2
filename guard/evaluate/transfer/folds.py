"""The data of a fold: training rows without its sources, and the rows by which the guard made of them is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from guard.conversation import Example
from guard.data.build.rule_files import RULES
from guard.data.dataset.examples import load_examples, load_rules
from guard.errors import DataError, need
from guard.evaluate.transfer.config import Fold, TransferConfig
from guard.jobs.atomic import atomic
from guard.policy import Policy

TEST = "test"
_COLUMNS = ("id", "source", "kind", "label")


def write_fold(config: TransferConfig, name: str, folder: Path) -> dict[str, int]:
    """Writes train, dev and test as parquet into `folder`, with every column of the built data; the rows of each.

    Rows of rules to train on are those of the build, less the fold's sources. A fold of rules has its test rows in
    `rules-test.parquet`. Rows are drawn by a hash of their id and the seed, so a larger number keeps the rows of a
    smaller one, and two folds share what they can. DataError if the data lack a source, or rows of rules, or if a split
    would have rows of one label alone.
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
    files = {
        target: whole.take(pa.array([row["index"] for row in members], pa.int64()))
        for target, members in _choose(config, fold, rows).items()
    }
    if fold.rules is not None:
        path = built / f"{RULES}-{fold.rules}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: missing; fold {name!r} needs a build with rows of rules")
        tested = pq.read_table(path)
        order = sorted(range(len(tested)), key=_by_hash(config.seed, tested.column("id").to_pylist()))
        files[TEST] = tested.take(order[: config.test_rows])
    for target, table in files.items():
        labels = sorted(set(table.column("label").to_pylist()))
        if len(labels) < 2:
            held = f" ({', '.join(labels)})" if labels else ""
            raise DataError(
                f"{config.data}: fold {name!r} has {target} rows of one label alone{held}; "
                + ("give `beside` a number of rows" if target == TEST else "hold out fewer sources")
            )
    counts = {target: len(table) for target, table in files.items()}
    if (path := built / f"{RULES}-train.parquet").is_file():
        table = pq.read_table(path)
        kept = [source not in fold.sources for source in table.column("source").to_pylist()]
        files[f"{RULES}-train"] = table.filter(pa.array(kept, pa.bool_()))
    if fold.rules is not None:
        files[f"{RULES}-{TEST}"] = files.pop(TEST)
    folder.mkdir(parents=True, exist_ok=True)
    for target, table in files.items():
        with atomic(folder / f"{target}.parquet") as file:
            pq.write_table(table, file)
    return counts


def load_test(fold: Fold, folder: Path, rules: Policy) -> list[tuple[Example, Policy]]:
    """The test rows that `write_fold` wrote, each with the policy that its label is of."""
    if fold.rules is not None:
        return load_rules(folder, TEST)
    return [(example, rules) for example in load_examples(folder, TEST, rules)]


def _choose(config: TransferConfig, fold: Fold, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    def first(candidates: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
        return sorted(candidates, key=lambda row: _hash(config.seed, row["id"]))[:count]

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
    chosen = {
        "train": first((row for row in others if row["split"] == "train"), config.train_rows),
        "dev": first((row for row in others if row["split"] == "dev" and row["id"] not in taken), config.dev_rows),
    }
    return chosen if fold.rules is not None else {**chosen, TEST: scored}


def _by_hash(seed: int, ids: Sequence[str]) -> Callable[[int], str]:
    return lambda index: _hash(seed, ids[index])


def _hash(seed: int, row: str) -> str:
    return hashlib.sha256(f"{seed}/{row}".encode()).hexdigest()
