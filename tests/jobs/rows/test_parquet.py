"""Parquet rows of the types that other programs write."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from guard.errors import DataError, InvalidInput
from guard.jobs.rows import open_rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
VIEW = pa.array(["a", "b", "c"], pa.string_view())


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"prompt": VIEW, "n": [1, 2, 3]}),
        pa.table({"prompt": ["a", "b", "c"], "note": VIEW}),
        pa.table({"prompt": ["a", "b", "c"], "note": pa.array([b"a", b"b", None], pa.binary_view())}),
        pa.table({"prompt": ["a", "b", "c"], "note": pa.array([["a"], [], None], pa.list_(pa.string_view()))}),
        pa.table({"prompt": pa.array(["a", "b", "c"], pa.large_string())}),
        pa.table({"prompt": pa.array(["a", "b", "a"]).dictionary_encode(), "when": [datetime.date(2024, 1, 2)] * 3}),
    ],
    ids=["view", "view beside", "binary view", "list of views", "large", "dictionary"],
)
def test_columns_of_any_type_are_read_and_written(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows = open_rows(tmp_path / "a.parquet", adding={"o": "object"})
    with (tmp_path / "part").open("wb") as part:
        (shard,) = rows.shards(9)
        assert [shard.row(index)["prompt"] for index in range(3)] == table["prompt"].to_pylist()
        shard.write(part, dict.fromkeys((0, 2), json.dumps({"o": {"S1": 1}})))
    with (tmp_path / "b.parquet").open("wb") as out:
        rows.join([tmp_path / "part"], out)
    found = pq.read_table(tmp_path / "b.parquet")
    assert found.drop_columns(["o"]).to_pylist() == [table.to_pylist()[index] for index in (0, 2)]
    assert [found.schema.field(name).type for name in table.schema.names] == table.schema.types
    assert found["o"].to_pylist() == ['{"S1": 1}'] * 2


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table([VIEW, VIEW], names=["prompt", "prompt"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: has two columns `prompt`; rename one of them"):
        open_rows(tmp_path / "a.parquet")


def test_shards_end_where_they_were_asked_to(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [str(n) for n in range(250)]}), tmp_path / "a.parquet", row_group_size=90)
    for size in (1, 7, 32, 33, 100, 1000):
        shards = list(open_rows(tmp_path / "a.parquet").shards(size))
        assert [len(shard) for shard in shards[:-1]] == [size] * (249 // size)
        found = [(shard.number(i), shard.row(i)["prompt"]) for shard in shards for i in range(len(shard))]
        assert found == [(n + 1, str(n)) for n in range(250)]


def test_values_that_python_cannot_hold_break_their_row_alone(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"kumquat \xff", b"too"], pa.binary())
    years = pa.array([0, 10**15, 0], pa.timestamp("s"))
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"prompt": text, "when": years}), tmp_path / "a.parquet")
    (shard,) = open_rows(tmp_path / "a.parquet").shards(9)
    assert [shard.row(index)["prompt"] for index in (0, 2)] == ["fine", "too"]
    with pytest.raises(InvalidInput, match="not valid UTF-8"):
        shard.row(1)
    (shard,) = open_rows(tmp_path / "a.parquet", also=("when",)).shards(9)
    with pytest.raises(InvalidInput, match=r"not valid UTF-8|a value cannot be read"):
        shard.row(1)


def test_quarantined_rows_show_what_they_can(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"], pa.binary()).buffers())
    when = pa.array([10**15], pa.timestamp("s"))
    pq.write_table(pa.table({"prompt": text, "when": when, "n": [7]}), tmp_path / "a.parquet")
    (shard,) = open_rows(tmp_path / "a.parquet", adding={"o": "text"}).shards(9)
    assert shard.raw(0) == {
        "row": {"prompt": "(string that cannot be shown)", "when": "(timestamp[ms] that cannot be shown)", "n": 7}
    }


def test_deep_schemas_are_refused(tmp_path: Path) -> None:
    deep = pa.string()
    for _ in range(60):
        deep = pa.list_(deep)
    pq.write_table(pa.table({"prompt": ["a"], "n": pa.array([None], deep)}), tmp_path / "a.parquet", store_schema=False)
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet \(OSError\)"):
        open_rows(tmp_path / "a.parquet")
