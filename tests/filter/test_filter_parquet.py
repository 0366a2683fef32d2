"""guard.filter.run on Parquet files: types stay, rows are accounted for, resuming gives the same bytes."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path

import pytest

from guard.engines.fake import FakeEngine
from guard.errors import DataError
from guard.filter.columns import parse_columns
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.filter.scores import ADDED
from guard.moderator import Moderator, open_moderator
from guard.policy import load

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FAKE = open_moderator("fake", policy="minimal")


def table(count: int = 9) -> pa.Table:
    prompts = [None if n % 5 == 4 else f"please violates:M2 {n}" if n % 3 == 1 else f"hello {n}" for n in range(count)]
    when = datetime.datetime(2024, 2, 3, 4, 5, 6)
    columns = {
        "id": pa.array(range(count), pa.uint16()),
        "prompt": pa.array(prompts, pa.large_string()),
        "when": pa.array([when] * count, pa.timestamp("ms")),
        "price": pa.array([decimal.Decimal("1.50")] * count, pa.decimal128(9, 2)),
        "blob": pa.array([b"\x00\xff"] * count, pa.binary()),
        "kind": pa.array(["a", "b", "a"] * (count // 3), pa.string()).dictionary_encode(),
        "tags": pa.array([["x"], [], None] * (count // 3), pa.list_(pa.string())),
        "nested": pa.array([{"k": 1.5}] * count, pa.struct([("k", pa.float32())])),
    }
    return pa.table(columns).replace_schema_metadata({"owner": "somebody"})


def job(folder: Path, rows: pa.Table, **options) -> Job:
    source = folder / "in.parquet"
    pq.write_table(rows, source, row_group_size=4)
    return Job([source], folder / "out.parquet", folder / "q.jsonl", **options)


def test_columns_keep_values_types_order_and_metadata(tmp_path):
    rows = table()
    wanted = job(tmp_path, rows, shard_rows=2)
    tally = filter_rows(wanted, FAKE)
    out = pq.read_table(wanted.out)
    assert out.schema.names == [*rows.schema.names, *ADDED]
    assert [out.schema.field(name).type for name in rows.schema.names] == rows.schema.types
    assert out.schema.metadata[b"owner"] == b"somebody"
    kept = [n for n in range(9) if n % 3 != 1 and n % 5 != 4]
    assert out.select(rows.schema.names).to_pylist() == rows.take(kept).to_pylist()
    assert (tally.read, tally.kept, tally.dropped, tally.quarantined) == (9, len(kept), 2, 1)


def test_added_columns_and_their_types(tmp_path):
    wanted = job(tmp_path, pa.table({"prompt": ["violates:M2", "hi"]}), keep="all")
    filter_rows(wanted, FAKE)
    out = pq.read_table(wanted.out)
    assert [str(out.schema.field(name).type) for name in ADDED] == [
        "string",
        "double",
        "list<element: string>",
        *["string"] * 4,
    ]
    first = out.to_pylist()[0]
    assert first["guard_outcome"] == "UNSAFE"
    assert first["guard_flagged"] == ["M2"]
    assert json.loads(first["guard_categories"])["M2"] == pytest.approx(first["guard_p_unsafe"], abs=1e-5)


def test_messages_as_lists_of_structs(tmp_path):
    messages = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "violates:M1"}], None]
    wanted = job(tmp_path, pa.table({"messages": messages}), keep="unsafe")
    tally = filter_rows(wanted, FAKE)
    assert (tally.kept, tally.quarantined) == (1, 1)
    assert pq.read_table(wanted.out)["messages"].to_pylist() == messages[:1]


def test_quarantine_holds_the_whole_row(tmp_path):
    wanted = job(tmp_path, table())
    filter_rows(wanted, FAKE)
    entries = [json.loads(line) for line in wanted.quarantine.read_text().splitlines()]
    assert [entry["line"] for entry in entries] == [5]
    assert entries[0]["reason"] == "the row has no value for `messages`, `prompt`, `text` or `response`"
    assert entries[0]["row"] == {
        "id": 4,
        "prompt": None,
        "when": "2024-02-03 04:05:06",
        "price": "1.50",
        "blob": "AP8=",
        "kind": "b",
        "tags": [],
        "nested": {"k": 1.5},
    }


def test_no_rows_give_a_table_of_no_rows(tmp_path):
    wanted = job(tmp_path, table().slice(0, 0))
    assert filter_rows(wanted, FAKE).read == 0
    out = pq.read_table(wanted.out)
    assert (out.num_rows, out.schema.names) == (0, [*table().schema.names, *ADDED])


class Mortal(FakeEngine):
    calls = 2

    def score(self, windows):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return super().score(windows)


def test_interrupted_job_ends_with_the_same_bytes(tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = job(tmp_path / "whole", table(12), shard_rows=3)
    filter_rows(whole, FAKE)
    broken = job(tmp_path / "broken", table(12), shard_rows=3)
    with pytest.raises(KeyboardInterrupt):
        filter_rows(broken, Moderator(Mortal(), load("minimal")))
    assert [path.name for path in sorted(broken.parts.glob("*.json"))] == [
        "000000.json",
        "000001.json",
        "settings.json",
    ]
    filter_rows(broken, FAKE)
    assert broken.out.read_bytes() == whole.out.read_bytes()


def test_columns_that_are_missing_or_in_the_way_are_named(tmp_path):
    for rows, options, message in (
        (pa.table({"prompt": ["x"], "guard_flagged": ["y"]}), {}, "has a column `guard_flagged` already"),
        (pa.table({"body": ["x"]}), {}, "has no column `messages`, .* or `response`; its columns are: body. --text"),
        (
            pa.table({"prompt": ["x"]}),
            {"columns": parse_columns("text=body")},
            "has no column `body`; its columns are: prompt",
        ),
    ):
        with pytest.raises(DataError, match=message):
            filter_rows(job(tmp_path, rows, **options), FAKE)
    assert filter_rows(job(tmp_path, pa.table({"body": ["x"]}), columns=parse_columns("text=body")), FAKE).kept == 1


def test_damaged_files_are_told(tmp_path):
    wanted = job(tmp_path, table())
    wanted.inputs[0].write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"in.parquet: cannot be read as Parquet \(ArrowInvalid\)"):
        filter_rows(wanted, FAKE)
    wanted = job(tmp_path, pa.table({"prompt": [f"row {n} {n * n}" for n in range(3000)]}))
    damaged = bytearray(wanted.inputs[0].read_bytes())
    damaged[200:1500] = bytes(1300)
    wanted.inputs[0].write_bytes(damaged)
    with pytest.raises(DataError, match=r"in\.parquet: damaged after row"):
        filter_rows(wanted, FAKE)
