"""The stored form of a data set: one parquet file a split, with declared columns, and one for the rows dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from guard.digest import file_digest
from guard.data.build import source_part as parts
from guard.data.build.row_index import KINDS, Table
from guard.data.build.select import DEVELOPMENT, REASONS, SPLITS, Placement
from guard.data.sources.description import Source
from guard.errors import need
from guard.jobs.ledger import Ledger

PAIRS = "pairs"  # files of preference pairs: pairs-train.parquet and so on
DROPS = "drops.parquet"
GROUP = 5000  # rows that are written together


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
            "undecided": datasets.List(text),
            "source": text,
            "licence": text,
            "role": text,
            "language": text,
            "kind": text,
            "cluster": text,
            "weight": datasets.Value("float64"),
        }
    )


def pair_features() -> Any:
    """The columns of preference pairs: `chosen` is preferred to `rejected` as the answer to `prompt`."""
    datasets = need("datasets", "data")
    text = datasets.Value("string")
    named = dict.fromkeys(("chosen", "rejected", "source", "licence", "role", "language", "cluster"), text)
    turns = datasets.List({"role": text, "content": text})
    return datasets.Features({"id": text, "prompt": turns, **named, "weight": datasets.Value("float64")})


def write(
    ledger: Ledger, sources: Sequence[Source], table: Table, placement: Placement, folder: Path
) -> dict[str, str]:
    """The sha256 (hex) of each file written, by name.

    train, dev and test are always written; development, the files of pairs and their splits if they have rows.
    """
    import numpy as np

    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    pair = table.kind == KINDS.index("pair")
    kept = placement.kept
    names = {(split, False): f"{split}.parquet" for split in SPLITS}
    names |= {(split, True): f"{PAIRS}-{split}.parquet" for split in SPLITS}
    wanted = {
        key: name
        for key, name in names.items()
        if (not key[1] and key[0] != DEVELOPMENT)
        or (kept & (placement.split == SPLITS.index(key[0])) & (pair == key[1])).any()
    }
    with ExitStack() as stack:
        writers = {
            key: stack.enter_context(
                parquet.ParquetWriter(folder / name, (pair_features() if key[1] else features()).arrow_schema)
            )
            for key, name in wanted.items()
        }
        waiting: dict[tuple[str, bool], list[Any]] = {key: [] for key in wanted}
        drops = stack.enter_context(parquet.ParquetWriter(folder / DROPS, parts.drop_schema()))

        def flush(key: tuple[str, bool]) -> None:
            if waiting[key]:
                whole = arrow.concat_tables(waiting[key]).combine_chunks()
                writers[key].write_table(whole, row_group_size=GROUP)
                waiting[key].clear()

        start = 0
        for number, source in enumerate(sources):
            for batch in parts.batches(ledger, number, parts.DROPS):
                drops.write_table(arrow.Table.from_batches([batch]))
            for batch in parts.batches(ledger, number, parts.ROWS):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                gone = rows[~kept[rows]]
                if len(gone):
                    drops.write_table(_dropped(batch.filter(arrow.array(~kept[rows])), gone, source, table, placement))
                for key in wanted:
                    chosen = kept[rows] & (placement.split[rows] == SPLITS.index(key[0])) & (pair[rows] == key[1])
                    if chosen.any():
                        made = _pairs if key[1] else _examples
                        columns = made(batch.filter(arrow.array(chosen)), rows[chosen], source, placement)
                        schema = writers[key].schema
                        waiting[key].append(arrow.table([columns[name] for name in schema.names], schema=schema))
                        if sum(waited.num_rows for waited in waiting[key]) >= GROUP:
                            flush(key)
        for key in wanted:
            flush(key)
    return {name: file_digest(folder / name) for name in (*wanted.values(), DROPS)}


def _common(batch: Any, rows: Any, source: Source, placement: Placement) -> dict[str, Any]:
    arrow = need("pyarrow", "data")
    count = batch.num_rows
    return {
        "id": _hex(batch["id"]),
        "source": arrow.repeat(source.name, count),
        "licence": arrow.repeat(source.licence, count),
        "role": arrow.repeat(source.role, count),
        "language": batch["language"],
        "cluster": _hex(arrow.array(placement.cluster[rows])),
        "weight": arrow.array(placement.weight[rows]),
    }


def _examples(batch: Any, rows: Any, source: Source, placement: Placement) -> dict[str, Any]:
    """A safe row violates nothing; an unsafe one is known if its source says what it violates."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    named = compute.greater(compute.list_value_length(batch["categories"]), 0)
    return {
        **_common(batch, rows, source, placement),
        "messages": batch["messages"].cast(features().arrow_schema.field("messages").type),
        "label": batch["label"],
        "categories": batch["categories"].cast(arrow.list_(arrow.string())),
        "categories_known": compute.or_(compute.equal(batch["label"], "safe"), named),
        "undecided": batch["undecided"].cast(arrow.list_(arrow.string())),
        "kind": batch["kind"],
    }


def _pairs(batch: Any, rows: Any, source: Source, placement: Placement) -> dict[str, Any]:
    turns = batch["messages"].cast(pair_features().arrow_schema.field("prompt").type)
    return {
        **_common(batch, rows, source, placement),
        "prompt": turns,
        "chosen": batch["chosen"],
        "rejected": batch["rejected"],
    }


def _dropped(batch: Any, rows: Any, source: Source, table: Table, placement: Placement) -> Any:
    arrow = need("pyarrow", "data")
    reasons = [REASONS[code] for code in placement.reason[rows].tolist()]
    others = placement.stays[rows]
    detail = [
        "" if other == row else f"{id:016x}"
        for row, other, id in zip(rows.tolist(), others.tolist(), table.id[others].tolist(), strict=True)
    ]
    columns = [arrow.repeat(source.name, len(rows)), _hex(batch["id"]), batch["place"], reasons, detail]
    return arrow.table(
        [arrow.array(column) if isinstance(column, list) else column for column in columns], schema=parts.drop_schema()
    )


def _hex(ids: Any) -> Any:
    return need("pyarrow", "data").array([f"{id:016x}" for id in ids.to_pylist()])
