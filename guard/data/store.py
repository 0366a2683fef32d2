"""The stored form of a data set: one parquet file a split, with declared columns."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.data.row import Row
from guard.data.sources import Source
from guard.errors import need

SPLITS = ("train", "dev", "test")
DEVELOPMENT = "development"


@dataclass(frozen=True, slots=True, repr=False)
class Placed:
    """A row of a source in its split; rows of one cluster share a split."""

    row: Row
    source: Source
    split: str
    cluster: str
    weight: float

    @property
    def categories_known(self) -> bool:
        """A safe row violates nothing; an unsafe one is known if its source says what it violates."""
        return self.row.label == "safe" or bool(self.row.categories)


def features() -> Any:
    """The columns of every split, as `datasets.Features`."""
    datasets = need("datasets", "data")
    text = datasets.Value("string")
    return datasets.Features(
        {
            "id": text,
            "messages": datasets.List({"role": text, "content": text}),
            "label": text,
            "categories": datasets.List(text),
            "categories_known": datasets.Value("bool"),
            "source": text,
            "licence": text,
            "role": text,
            "language": text,
            "kind": text,
            "cluster": text,
            "weight": datasets.Value("float64"),
        }
    )


def write(placed: Iterable[Placed], folder: Path) -> dict[str, str]:
    """The sha256 (hex) of each file written, by name: train, dev and test always, development if it has rows."""
    datasets = need("datasets", "data")
    by_split: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in placed:
        by_split[one.split].append(_columns(one))
    written = {}
    for split in (*SPLITS, DEVELOPMENT):
        if split == DEVELOPMENT and not by_split[split]:
            continue
        columns = features()
        table = {name: [row[name] for row in by_split[split]] for name in columns}
        path = folder / f"{split}.parquet"
        datasets.Dataset.from_dict(table, features=columns).to_parquet(str(path))
        written[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return written


def _columns(one: Placed) -> dict[str, Any]:
    row = one.row
    messages = [{"role": "user", "content": row.prompt}]
    if row.response is not None:
        messages.append({"role": "assistant", "content": row.response})
    return {
        "id": row.id,
        "messages": messages,
        "label": row.label,
        "categories": list(row.categories or ()),
        "categories_known": one.categories_known,
        "source": row.source,
        "licence": one.source.licence,
        "role": one.source.role,
        "language": row.language,
        "kind": row.kind,
        "cluster": one.cluster,
        "weight": one.weight,
    }
