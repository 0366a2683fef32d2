"""The part of one ingested source on disk: its rows with the keys that later steps compare, and its drops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from guard.data.build import near
from guard.data.ingest.fingerprint import duplicate_key, hash64, rule_key, text_key
from guard.data.ingest.ingest import IngestCounts
from guard.data.row import Drop, Row, Rule
from guard.errors import need
from guard.jobs.atomic import atomic
from guard.jobs.ledger import Ledger

BATCH = 2000
ROWS, DROPS = "rows.parquet", "drops.parquet"
PROMPTS, JUDGED = "prompts.u32", "judged.u32"  # concatenated MinHash signatures of the rows


def row_schema() -> Any:
    """The columns of ROWS: `id`, `key`, `prompt_key`, `groups` and `rule_key` (0: no rule) are 64-bit hashes."""
    arrow = need("pyarrow", "data")
    text, hashed = arrow.string(), arrow.uint64()
    message = arrow.struct([("role", text), ("content", text)])
    columns = {
        "id": hashed,
        "key": hashed,
        "prompt_key": hashed,
        "groups": arrow.list_(hashed),
        "kind": text,
        "label": text,
        "language": text,
        "categories": arrow.list_(text),
        "undecided": arrow.list_(text),
        "characters": arrow.int32(),
        "messages": arrow.list_(message),
        "chosen": text,
        "rejected": text,
        "place": text,
        "rule_key": hashed,
        "rule": arrow.struct([("domain", text), ("name", text), ("definition", text)]),
        "instructed": arrow.bool_(),
    }
    return arrow.schema(list(columns.items()))


def drop_schema() -> Any:
    """The columns of DROPS."""
    arrow = need("pyarrow", "data")
    return arrow.schema([(name, arrow.string()) for name in ("source", "id", "place", "reason", "detail")])


def write_part(rows: Iterable[Row | Drop], ledger: Ledger, part: int) -> IngestCounts:
    """Write the files of a part, batch by batch, and count its rows; the caller commits it."""
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    counts = IngestCounts()
    kept: list[Row] = []
    drops: list[Drop] = []
    with ExitStack() as stack:
        files = {name: stack.enter_context(atomic(ledger.path(part, name))) for name in (ROWS, DROPS, PROMPTS, JUDGED)}
        row_writer = stack.enter_context(parquet.ParquetWriter(files[ROWS], row_schema()))
        drop_writer = stack.enter_context(parquet.ParquetWriter(files[DROPS], drop_schema()))

        def flush() -> None:
            row_writer.write_table(arrow.Table.from_pylist([_row(row) for row in kept], schema=row_schema()))
            drop_writer.write_table(arrow.Table.from_pylist([_drop(drop) for drop in drops], schema=drop_schema()))
            files[PROMPTS].write(near.signatures([row.prompt for row in kept]).tobytes())
            files[JUDGED].write(near.signatures([row.judged for row in kept]).tobytes())
            kept.clear()
            drops.clear()

        for row in rows:
            counts.add(row)
            if isinstance(row, Drop):
                drops.append(row)
            else:
                kept.append(row)
            if len(kept) + len(drops) >= BATCH:
                flush()
        flush()
    return counts


def _row(row: Row) -> dict[str, Any]:
    pair = row.kind == "pair"
    return {
        "id": int(row.id, 16),
        "key": duplicate_key(row),
        "prompt_key": hash64(text_key(row.prompt)),
        "groups": [hash64(group) for group in row.groups],
        "kind": row.kind,
        "label": row.label,
        "language": row.language,
        "categories": list(row.categories or ()),
        "undecided": list(row.undecided),
        "characters": len(row.judged),
        "messages": [{"role": role, "content": content} for role, content in row.messages],
        "chosen": row.response if pair else None,
        "rejected": row.rejected,
        "place": row.place,
        "rule_key": rule_key(row.rule),
        "rule": None if row.rule is None else dataclasses.asdict(row.rule),
        "instructed": row.instructed,
    }


def _drop(drop: Drop) -> dict[str, Any]:
    return {name: getattr(drop, name) for name in ("source", "id", "place", "reason", "detail")}


def read_index_columns(ledger: Ledger, part: int) -> Any:
    """The columns of a part that fit in memory for all rows, as a pyarrow table: all but texts and locations."""
    large = ("messages", "chosen", "rejected", "place", "rule")
    columns = [name for name in row_schema().names if name not in large]
    return need("pyarrow.parquet", "data").read_table(ledger.path(part, ROWS), columns=columns)


def read_rules(ledger: Ledger, part: int) -> dict[int, Rule]:
    """The rules that the rows of a part are judged by, by their keys."""
    table = need("pyarrow.parquet", "data").read_table(ledger.path(part, ROWS), columns=["rule_key", "rule"])
    named = zip(table["rule_key"].to_pylist(), table["rule"].to_pylist(), strict=True)
    return {key: Rule(**rule) for key, rule in named if rule is not None}


def batches(ledger: Ledger, part: int, name: str) -> Iterator[Any]:
    """Record batches of ROWS or DROPS in order."""
    yield from need("pyarrow.parquet", "data").ParquetFile(ledger.path(part, name)).iter_batches(batch_size=BATCH)
