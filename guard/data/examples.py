"""Examples read back from a built data set, for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from guard.conversation import Conversation, Example, Message, Split
from guard.data.store import DEVELOPMENT, SPLITS
from guard.errors import DataError, need


def load_examples(folder: Path, split: str) -> list[Example]:
    """The examples of one split of the data set in `folder`, in stored order.

    `split` is train, dev, test, or development (whose examples count as dev). DataError if there is no such file.
    """
    if split not in (*SPLITS, DEVELOPMENT):
        raise DataError(f"unknown split {split!r}; allowed: {', '.join((*SPLITS, DEVELOPMENT))}")
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise DataError(f"no data at {path}; make it with: guard data build CONFIG --root DIR --out {folder}")
    rows = need("pyarrow.parquet", "data").read_table(path).to_pylist()
    name = cast(Split, "dev" if split == DEVELOPMENT else split)
    return [_example(row, name) for row in rows]


def _example(row: dict[str, Any], split: Split) -> Example:
    return Example(
        id=row["id"],
        conversation=Conversation(tuple(Message(entry["role"], entry["content"]) for entry in row["messages"])),
        label=row["label"],
        categories=frozenset(row["categories"]) if row["categories_known"] else None,
        source=row["source"],
        licence=row["licence"],
        language=row["language"],
        kind=row["kind"],
        split=split,
        weight=row["weight"],
    )
