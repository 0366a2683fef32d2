"""guard.jobs.rows: the same rows from every format, and what each file is refused for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conversation import Conversation, ConversationColumns, conversation_from_row
from guard.errors import ConfigError, DataError, InvalidInput
from guard.jobs.rows import RowFile, open_rows
from guard.jobs.rows.limits import ROW_BYTES

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FORMATS = ("jsonl", "jsonl.gz", "csv", "csv.gz", "tsv", "parquet")
CANARY = "kumquat-4711"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the suffix; None is a null, or an empty cell."""
    format = path.name.partition(".")[2].removesuffix(".gz")
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist([dict.fromkeys(names_of(rows)) | row for row in rows]), path)
        return path
    text = io.StringIO(newline="")
    if format == "jsonl":
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(text, names_of(rows), delimiter="," if format == "csv" else "\t")
        writer.writeheader()
        writer.writerows(rows)
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def read(file: RowFile, size: int = 3) -> list[Any]:
    """The columns of every row, or what is wrong with it."""
    found: list[Any] = []
    for shard in file.shards(size):
        assert 0 < len(shard) <= size
        for index in range(len(shard)):
            try:
                found.append(dict(shard.row(index)))
            except InvalidInput as problem:
                found.append(str(problem))
    assert not [told for told in found if isinstance(told, str) and CANARY in told]
    return found


TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), st.integers(1, 9))
def test_every_format_gives_the_same_rows(texts: list[tuple[str | None, str | None]], size: int) -> None:
    rows = [{"prompt": prompt, "response": response, "id": str(n)} for n, (prompt, response) in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        for format in FORMATS:
            assert read(open_rows(write(Path(folder) / f"a.{format}", rows), also=None), size) == rows, format


def test_messages_are_the_same_from_every_format(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": 'a, b\n"c"'}, {"role": "assistant", "content": "d"}]
    expected = Conversation.from_messages(turns)
    for format in FORMATS:
        cell = json.dumps(turns) if format.partition(".")[0] in ("csv", "tsv") else turns
        path = write(tmp_path / f"a.{format}", [{"messages": cell}, {"messages": json.dumps(turns)}][:1])
        assert [conversation_from_row(row) for row in read(open_rows(path))] == [expected], format


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "a.txt",
            b"x",
            r"a\.txt: unknown suffix '\.txt'; allowed: \.jsonl, .*also with \.gz or \.zst after it, and \.parquet",
        ),
        ("a.parquet.gz", b"x", r"unknown suffix '\.gz'"),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: cannot be read as Parquet \(ArrowInvalid\)"),
        ("a.csv", b"", r"a\.csv: has no header; its first line must hold the names"),
        ("a.csv", b"\n\nprompt\nx\n", r"a\.csv: has no header"),
        ("a.csv", b'"prompt', r"a\.csv header: not valid ','-separated text: unexpected end of data"),
        ("a.csv", b"prompt,x,prompt\n", r"a\.csv: columns 1 and 3 have the same name; rename one"),
        (
            "a.csv",
            f"{CANARY},safe\nx,y\n".encode(),
            r"has no column `messages`, `prompt`, `text` or `response` among the 2 of its first row",
        ),
        ("a.tsv", b"prompt\tguard_outcome\n", r"a\.tsv: has a column `guard_outcome` already, which this command adds"),
        ("a.jsonl", b'{"prompt": "x"}\n{"guard_outcome": 1}', r"a\.jsonl line 2: has a column `guard_outcome`"),
        ("a.jsonl.gz", b"not gzip", r"a\.jsonl\.gz: not a complete gzip file"),
        ("a.csv.gz", gzip.compress(b"prompt\n" + b"x\n" * 99, mtime=0)[:-9], r"a\.csv\.gz: not a complete gzip file"),
        ("none.jsonl", None, r"none\.jsonl: cannot be read: No such file or directory"),
        ("none.csv", None, r"none\.csv: cannot be read: No such file or directory"),
        ("none.parquet", None, r"none\.parquet: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_without_its_text(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ConfigError), match=told) as problem:
        read(open_rows(tmp_path / name, adding={"guard_outcome": "text"}))
    assert CANARY not in str(problem.value)


def test_a_file_without_a_suffix_is_jsonl(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'\xef\xbb\xbf{"prompt": "x"}\r\n\n  {"prompt": "y"}')
    assert read(open_rows(tmp_path / "rows")) == [{"prompt": "x"}, {"prompt": "y"}]


def test_a_column_of_bare_texts(tmp_path: Path) -> None:
    columns = ConversationColumns.of_text("body")
    for format in FORMATS:
        path = write(tmp_path / f"a.{format}", [{"body": "x", "id": "1", "other": "y"}])
        row = read(open_rows(path, columns, also=("id",)))[0]
        assert conversation_from_row(row, columns) == Conversation.of("x")
        assert row["id"] == "1"
        if "jsonl" not in format:  # whose rows may differ in their columns
            with pytest.raises(DataError, match="has no column `none`"):
                open_rows(path, ConversationColumns.of_text("none"))


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_rows_as_other_programs_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffprompt,note\r\n"two\r\nlines, ""quoted""",\r\n\r\nplain,n\n"ende",é'.encode())
    (shard,) = open_rows(path).shards(9)
    assert [shard.number(index) for index in range(3)] == [2, 5, 6]
    assert [dict(shard.row(index)) for index in range(3)] == [
        {"prompt": 'two\r\nlines, "quoted"', "note": None},
        {"prompt": "plain", "note": "n"},
        {"prompt": "ende", "note": "é"},
    ]


def test_broken_csv_rows_spare_the_others_and_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'prompt,n\na,1\nkumquat-4711\n"kumquat-4711" x,2\nkumquat-4711\xff,3\nb,4\n"kumquat-4711,5')
    rows = read(open_rows(path), 9)
    assert rows[0] == {"prompt": "a", "n": "1"}
    assert rows[4] == {"prompt": "b", "n": "4"}
    assert rows[1] == "has 1 fields, the header names 2"
    assert rows[2] == "not valid ','-separated text: ',' expected after '\"'"
    assert rows[3] == "not valid UTF-8"
    assert rows[5] == "not valid ','-separated text: unexpected end of data"
    (shard,) = open_rows(path).shards(9)
    assert [shard.raw(index) for index in (1, 2, 5)] == [
        {"raw": "kumquat-4711"},
        {"raw": '"kumquat-4711" x,2'},
        {"raw": '"kumquat-4711,5'},
    ]
    assert shard.raw(3) == {"raw_base64": "a3VtcXVhdC00NzEx/ywz"}


def test_csv_rows_are_written_as_they_were_with_columns_added(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'prompt, n ,"x"\r\n"a\nb",1,\r\nc,02,"y"\nd,3,z')
    kinds = {"t": "text", "n2": "number", "l": "texts", "o": "object"}
    rows = open_rows(path, adding=kinds)
    added = json.dumps({"t": "SAFE", "n2": 0.5, "l": ["S1", "S10"], "o": {"S1": 0.25}})
    with (tmp_path / "part").open("wb") as part:
        for shard in rows.shards(9):
            shard.write(part, dict.fromkeys((0, 2), added))
    with (tmp_path / "b.csv").open("wb") as out:
        rows.join([tmp_path / "part"], out)
    more = b'SAFE,0.5,"S1,S10","{""S1"": 0.25}"'
    assert (tmp_path / "b.csv").read_bytes() == (
        b'prompt, n ,"x",t,n2,l,o\r\n' + b'"a\nb",1,,' + more + b"\r\n" + b"d,3,z," + more + b"\n"
    )


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_row_that_is_too_long_is_broken_and_spares_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = b'{"prompt": "' + b"a" * (2 * ROW_BYTES) + b'"}'
    path.write_bytes(b'{"prompt": "x"}\n' + long + b'\n{"prompt": "y"}\n' + long)
    told = f"the row is too long: {len(long) + 1:,} bytes, must be <= {ROW_BYTES:,}"
    rows = read(open_rows(path))
    assert rows[:3] == [{"prompt": "x"}, told, {"prompt": "y"}]
    assert len(rows) == 4
    (shard,) = open_rows(path).shards(9)
    assert shard.raw(1) == {"bytes": len(long) + 1}
    exact = b'{"prompt": "' + b"a" * (ROW_BYTES - 15) + b'"}\n'
    path.write_bytes(exact)
    assert len(exact) == ROW_BYTES
    assert len(read(open_rows(path))[0]["prompt"]) == ROW_BYTES - 15


@pytest.mark.parametrize("cell", ["a" * (ROW_BYTES + 1), ("a" * 999 + "\n") * 4300], ids=["a line", "many lines"])
def test_a_csv_row_that_is_too_long_ends_the_reading(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f'prompt\nx\n"{cell}"\n')
    with pytest.raises(DataError, match=r"a\.csv line \d+: the row is too long: .*is a quote left open before it"):
        read(open_rows(tmp_path / "a.csv"))


def test_long_rows_come_in_smaller_shards(tmp_path: Path) -> None:
    for format, sizes in (("jsonl", [28, 1]), ("csv", [28, 1]), ("parquet", [32, 2])):
        path = write(tmp_path / f"a.{format}", [{"prompt": f"{n}" * 300_000} for n in range(10, 10 + sum(sizes))])
        assert [len(shard) for shard in open_rows(path).shards(5000)] == sizes, format


def test_what_expands_beyond_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", 9) as file:
        file.write(b" " * (20 << 20))
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: [\d,]+ bytes unpack to 16,[\d,]+ or more, over 250 times"):
        read(open_rows(path))
    path = tmp_path / "a.parquet"
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["a" * (20 << 20)]))
    pq.write_table(pa.table({"prompt": value}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"a\.parquet: [\d,]+ bytes unpack to 20,[\d,]+ or more"):
        open_rows(path)
    rows = pa.table({"prompt": pa.repeat(pa.scalar("hi"), 1_200_000)})
    pq.write_table(rows, path, row_group_size=1_200_000)
    with pytest.raises(DataError, match=r"a\.parquet: claims 1,200,000 rows in [\d,]+ bytes"):
        open_rows(path)
