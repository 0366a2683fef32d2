"""File formats: what is read, and that a broken file is named by place and never by content."""

import csv
import datetime
import decimal
import gzip
import io
import json
import string
import tempfile
import zipfile
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.data.sources.folders import files
from guard.data.sources.formats import each, format_of, read
from guard.errors import ConfigError, DataError


def records(tmp_path, name, content, format, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read(path, name, format, **options))


def workbook(path, *rows, sheets=()):
    book = openpyxl.Workbook()
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row, 1):
            cell = book.active.cell(number, column, value)
            if isinstance(value, str):
                cell.data_type = "s"  # not a formula, whatever it begins with
    for name in sheets:
        book.create_sheet(name).append([name])
    book.save(path)
    return path


# -- one table in every format ----------------------------------------------------------------------------------------

SIGNS = string.ascii_letters + string.digits + " ,;\t\"'=#|\n\\{}[]:éßж水🌱\u2028\u00a0"
CELL = st.text(SIGNS, max_size=12)
TABLE = st.lists(st.fixed_dictionaries({"text": CELL.filter(bool), "a, b": CELL, "c": CELL}), min_size=1, max_size=6)
COLUMNS = ["text", "a, b", "c"]


def write_table(path, table, format):
    columns = {name: pa.array([row[name] for row in table], pa.string()) for name in COLUMNS}
    if format in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter="," if format == "csv" else "\t")
            writer.writeheader()
            writer.writerows(table)
    elif format == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in table), "utf-8", newline="\n")
    elif format == "json":
        path.write_text(json.dumps(table), "utf-8")
    elif format == "xlsx":
        workbook(path, COLUMNS, *([row[name] for name in COLUMNS] for row in table))
    elif format == "parquet":
        pq.write_table(pa.table(columns), path, row_group_size=2)
    else:
        whole = pa.table(columns)
        with pa.ipc.new_stream(path, whole.schema) as writer:
            writer.write_table(whole, max_chunksize=2)


@settings(max_examples=25, deadline=None)
@given(TABLE)
def test_every_format_gives_the_same_table(table):
    with tempfile.TemporaryDirectory() as folder:
        for format in ("csv", "tsv", "jsonl", "json", "xlsx", "parquet", "arrow"):
            path = Path(folder) / f"a.{format}"
            assert format_of(path) == format
            write_table(path, table, format)
            assert [record.fields for record in read(path, path.name, format)] == table, format
            if format in ("csv", "tsv", "jsonl", "json"):
                packed = path.with_name(f"{path.name}.gz")
                packed.write_bytes(gzip.compress(path.read_bytes()))
                assert [record.fields for record in read(packed, packed.name, format_of(packed))] == table


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("a\r\n\x0b\x0c\x1c\x85\u2028é", max_size=8), max_size=6).map("".join), st.integers(1, 5))
def test_lines_are_those_of_splitlines_wherever_the_buffer_ends(text, size):
    from guard.data.sources import formats

    class Chunks(io.StringIO):
        def read(self, limit=-1):
            return super().read(min(limit, size))

    assert [record.fields["text"] for record in formats._lines(Chunks(text, newline=""), "a")] == text.splitlines()


# -- text -------------------------------------------------------------------------------------------------------------


def test_csv_with_mark_line_breaks_and_repeated_columns(tmp_path):
    found = records(tmp_path, "a.csv", '\ufefftext,n,n\r\n"two\r\nlines",1,2\r\n\r\nplain,3,4\r\n', "csv")
    assert [record.fields for record in found] == [
        {"text": "two\r\nlines", "n": "1", "n#2": "2"},
        {"text": "plain", "n": "3", "n#2": "4"},
    ]
    assert found[0].place == "a.csv row 1"


def test_tsv_jsonl_json_and_lines(tmp_path):
    assert records(tmp_path, "a.tsv", "a\tb\n1\t2\n", "tsv")[0].fields == {"a": "1", "b": "2"}
    jsonl = records(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": "\u2028"}\n', "jsonl")
    assert [(record.number, record.fields) for record in jsonl] == [(1, {"a": 1}), (3, {"a": "\u2028"})]
    assert [record.fields for record in records(tmp_path, "a.json", '["x", {"y": 1}]', "json")] == [
        {"text": "x"},
        {"y": 1},
    ]
    assert records(tmp_path, "b.json", '{"rows": [{"y": 1}]}', "json", at="rows")[0].fields == {"y": 1}
    assert records(tmp_path, "c.json", '{"k": ["v"]}', "json")[0].fields == {"value": {"k": ["v"]}}
    assert [record.fields["text"] for record in records(tmp_path, "a.txt", "one\ntwo\n", "lines")] == ["one", "two"]


def test_the_mark_of_utf_8_is_no_part_of_the_first_line_or_name(tmp_path):
    assert records(tmp_path, "a.jsonl", '\ufeff{"a": 1}\n', "jsonl")[0].fields == {"a": 1}
    assert records(tmp_path, "a.txt", "\ufeffone\n", "lines")[0].fields == {"text": "one"}
    assert records(tmp_path, "b.csv", "a\nx\n".encode("utf-16"), "csv", encoding="utf-16")[0].fields == {"a": "x"}


def test_first_column_leaves_out_rows_longer_than_the_first(tmp_path):
    found = records(tmp_path, "a.csv", "one,x\ntwo\nthree,x,y\nfour,\n", "first_column")
    assert [record.fields["text"] for record in found] == ["one", "two", "four"]


def test_a_cell_may_be_huge(tmp_path):
    huge = "word " * 400_000
    assert records(tmp_path, "a.csv", f'a,b\n"{huge}",1\n', "csv")[0].fields["a"] == huge
    assert records(tmp_path, "a.txt", f"{huge}\nshort", "lines")[0].fields["text"] == huge


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.csv", "a,b\n"), ("a.jsonl", ""), ("a.txt", "")])
def test_an_empty_file_has_no_records(tmp_path, name, content):
    assert records(tmp_path, name, content, format_of(Path(name))) == []


@pytest.mark.parametrize(
    ("name", "content", "format", "options", "message"),
    [
        ("a.csv", "a,b\n1,2\ncanary\n", "csv", {}, "a.csv row 2: has 1 fields, the header names 2"),
        ("a.csv", 'a,b\n1,2\n"canary,3\n4,5\n', "csv", {}, "a.csv row 2: not valid ','-separated text: unexpected end"),
        ("a.tsv", 'a\n"canary" 3\n', "tsv", {}, "a.tsv row 1: not valid '\\t'-separated text: "),
        ("a.csv", '"canary', "csv", {}, "a.csv header: not valid ','-separated text: unexpected end"),
        ("a.jsonl", '{"a": 1}\n{"canary\n', "jsonl", {}, "a.jsonl row 2: not valid JSON"),
        ("a.jsonl", '["canary"]\n', "jsonl", {}, "a.jsonl row 1: must be a JSON object, not list"),
        ("a.jsonl", "[" * 100_000, "jsonl", {}, "a.jsonl row 1: not valid JSON"),
        ("a.json", '["canary"', "json", {}, "a.json: not valid JSON: Expecting ',' delimiter at column 10"),
        ("a.json", '{"canary": 1}', "json", {"at": "rows"}, "must be a JSON object with the key `rows`"),
        ("a.json", "[1]", "json", {}, "a.json row 1: must be a JSON object, not int"),
        ("a.txt", b"canary \xff", "lines", {}, "a.txt: byte 7 is not utf-8"),
        ("a.xlsx", b"canary", "first_column", {}, "a.xlsx: is not an Excel workbook"),
        ("a.xlsx", b"canary", "xlsx", {}, "a.xlsx: is not an Excel workbook"),
        ("a.parquet", b"canary", "parquet", {}, "a.parquet: cannot be read as Parquet (ArrowInvalid)"),
        ("a.arrow", b"canary", "arrow", {}, "a.arrow: not a readable arrow file"),
        ("a.csv.gz", b"canary", "csv", {}, "a.csv.gz: not a complete gzip file"),
        ("a.csv.gz", gzip.compress(b"a\ncanary\n" * 99, mtime=0)[:-9], "csv", {}, "a.csv.gz: not a complete gzip file"),
    ],
)
def test_broken_files_are_named_without_their_text(tmp_path, name, content, format, options, message):
    with pytest.raises(DataError) as error:
        records(tmp_path, name, content, format, **options)
    assert message in str(error.value)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("encoding", "good", "bad"),
    [("utf-8", "é", b"\xff"), ("utf-8", "é", b"\xc3"), ("gb18030", "围", b"\xff"), ("ascii", "e", b"\xe9")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_first_bad_byte_is_told_from_the_start_of_the_file(tmp_path, encoding, good, bad, packed):
    before = (good * 800_001 + "\n").encode(encoding)  # more than one buffer, whose edges fall into characters
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(before + bad, 1) if packed else before + bad)
    with pytest.raises(DataError, match=rf"a\.txt[.gz]*: byte {len(before)} is not {encoding}"):
        list(read(path, path.name, "lines", encoding=encoding))


def test_undecodable_bytes_can_be_replaced_and_other_encodings_read(tmp_path):
    assert records(tmp_path, "a.txt", b"a\xffb", "lines", undecodable="replace")[0].fields == {"text": "a\ufffdb"}
    assert records(tmp_path, "b.txt", "围墙".encode("gb18030"), "lines", encoding="gb18030")[0].fields == {
        "text": "围墙"
    }


def test_a_missing_file_is_a_data_error(tmp_path):
    for format in ("csv", "xlsx", "parquet", "arrow"):
        with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
            list(read(tmp_path / "gone.csv", "gone.csv", format))


def test_a_broken_row_can_be_passed_over(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3\n\n4,5\n")
    told = [(record.number, record.fields.get("a"), record.problem) for record in each(path, "a.csv", "csv")]
    assert told == [(1, "1", ""), (2, None, "has 1 fields, the header names 2"), (4, "4", "")]
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{\n7\n{"a": 2}\n')
    told = "not valid JSON: Expecting property name enclosed in double quotes at column 2"
    problems = ["", told, "must be a JSON object, not int", ""]
    assert [record.problem for record in each(path, "a.jsonl", "jsonl")] == problems


def test_the_format_follows_from_the_suffix():
    assert format_of(Path("A.B.CSV")) == "csv"
    assert format_of(Path("rows.ndjson.gz")) == "jsonl"
    for name in ("rows", "rows.xls", "rows.gz", "rows.parquet.gz", "rows.xlsx.gz"):
        with pytest.raises(ConfigError, match=r"allowed: \.csv, .*\.gz after \.csv"):
            format_of(Path(name))


# -- workbooks --------------------------------------------------------------------------------------------------------


def test_first_column_of_a_workbook(tmp_path):
    rows = ["one", "x"], ["two"], [None], [None, "y"], ["  three\nlines "]
    path = workbook(tmp_path / "a.xlsx", *rows, sheets=["Other"])
    found = [(record.number, record.fields["text"]) for record in read(path, "a.xlsx", "first_column")]
    assert found == [(1, "one"), (2, "two"), (5, "  three\nlines ")]


def test_a_sheet_gives_what_its_csv_would_give(tmp_path):
    day, moment = datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, 13, 30)
    rows = [[], ["text", "n", "n"], ["a", 1, 0.5], [], [None, True, day], [42, 2.0, moment], ["b"]]
    found = list(read(workbook(tmp_path / "a.xlsx", *rows), "a.xlsx", "xlsx"))
    assert [(record.number, [*record.fields.values()]) for record in found] == [
        (3, ["a", "1", "0.5"]),
        (5, ["", "true", "2024-05-01"]),
        (6, ["42", "2", "2024-05-01 13:30:00"]),
        (7, ["b", "", ""]),
    ]
    assert [*found[0].fields] == ["text", "n", "n#2"]


def test_a_sheet_is_chosen_by_name_and_a_cell_without_a_column_is_told(tmp_path):
    path = workbook(tmp_path / "a.xlsx", ["a"], ["1", "canary"], ["2"], sheets=["Other"])
    assert [record.problem for record in each(path, "a.xlsx", "xlsx")] == ["has 2 cells, the header names 1", ""]
    assert list(read(path, "a.xlsx", "xlsx", at="Other")) == []
    with pytest.raises(DataError, match=r"a\.xlsx: has no sheet `Third`; its sheets are: Sheet, Other"):
        list(read(path, "a.xlsx", "xlsx", at="Third"))


# -- parquet and arrow ------------------------------------------------------------------------------------------------


def test_columns_of_any_type_become_plain_values(tmp_path):
    columns = {
        "turns": [[{"role": "user", "content": "hi"}], None],
        "flag": [True, None],
        "day": [datetime.date(2024, 5, 1), None],
        "price": [decimal.Decimal("1.50"), None],
        "share": pa.array([0.5, float("nan")]),
        "word": pa.array(["a", "b"]).dictionary_encode(),
    }
    for name, format in (("a.parquet", "parquet"), ("a.arrow", "arrow")):
        path = tmp_path / name
        table = pa.table(columns)
        if format == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        first, second = (record.fields for record in read(path, name, format))
        assert first == {
            "turns": [{"role": "user", "content": "hi"}],
            "flag": True,
            "day": "2024-05-01",
            "price": "1.50",
            "share": 0.5,
            "word": "a",
        }
        assert second["share"] != second["share"]
        assert [second[name] for name in ("turns", "flag", "day", "price")] == [None] * 4


def test_columns_of_one_name_are_all_kept(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]), path)
    assert next(read(path, "a", "parquet")).fields == {"n": 1, "n#2": 2}


def test_a_truncated_stream_is_told_with_the_last_whole_row(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["canary" * 99] * 50})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match=r"a\.arrow: damaged after row [1-4]0 ") as error:
        list(read(path, "a.arrow", "arrow"))
    assert "canary" not in str(error.value)


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_saved_data_set_is_read_by_its_state_and_labels_by_their_names(tmp_path):
    import datasets

    label = datasets.ClassLabel(names=["unsafe", "safe"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label, "all": datasets.List(label)})
    rows = {"text": ["a", "b", "c"], "label": [0, 1, -1], "all": [[0, 1], [], None]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "two")
    saved.save_to_disk(tmp_path / "one", num_shards=2)
    for folder, split, texts in (
        ("two", "train", "abc"),
        ("two", "test", "b"),
        ("two", "all", "abcb"),
        ("one", None, "abc"),
    ):
        format, paths = files(tmp_path / folder, split)
        found = [record.fields for path in paths for record in read(path, path.name, format)]
        assert [fields["text"] for fields in found] == list(texts)
    assert [(fields["label"], fields["all"]) for fields in found] == [
        ("unsafe", ["unsafe", "safe"]),
        ("safe", []),
        (None, None),
    ]
    for wanted in (None, "canary"):
        with pytest.raises(ConfigError, match="train, test"):
            files(tmp_path / "two", wanted)
    paths[0].unlink()
    with pytest.raises(DataError, match=r"state\.json lists data-00000-of-00002\.arrow, which is not there"):
        files(tmp_path / "one")


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test.csv"], "train", [0, 1]),
        (["train/a.jsonl", "train/b.jsonl.gz", "dev/a.jsonl"], "validation", [2]),
        (["b.tsv", "a.tsv"], None, [1, 0]),
        (["validation.parquet"], "dev", [0]),
        (["latest.csv", "README.md", "dataset_infos.json", ".hidden/x.csv"], None, [0]),
    ],
)
def test_a_plain_folder_is_parted_by_the_names_in_it(tmp_path, names, split, found):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files(tmp_path, split)[1] == [tmp_path / names[index] for index in found]


def test_a_folder_must_have_one_format_and_a_split_be_chosen(tmp_path):
    with pytest.raises(DataError, match="of none of: parquet"):
        files(tmp_path)
    (tmp_path / "train.csv").touch()
    (tmp_path / "test.csv").touch()
    with pytest.raises(ConfigError, match=r"has the splits test, train; choose one with `split`, or `split: all`"):
        files(tmp_path)
    with pytest.raises(ConfigError, match="has no split 'validation'"):
        files(tmp_path, "validation")
    (tmp_path / "more.jsonl").touch()
    with pytest.raises(DataError, match=r"of several formats \(jsonl, csv\)"):
        files(tmp_path)


def test_what_expands_beyond_reason_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.txt.gz", "wb", 9) as file:
        file.write(b" " * (20 << 20))
    with pytest.raises(DataError, match=r"a\.txt\.gz: [\d,]+ bytes unpack to 1[6-7],[\d,]+ or more, over 250 times"):
        list(each(tmp_path / "a.txt.gz", "a.txt.gz", "lines"))
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/sharedStrings.xml", b" " * (20 << 20))
    with pytest.raises(DataError, match=r"a\.xlsx: [\d,]+ bytes unpack to 20,971,520 or more"):
        list(each(tmp_path / "a.xlsx", "a.xlsx", "xlsx"))


def test_a_sheet_has_no_more_rows_than_a_sheet_can_have(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["text"])
    book.active.append(["canary"])
    book.save(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as whole, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as far:
        for part in whole.infolist():
            far.writestr(part, whole.read(part).replace(b'r="2"', b'r="999999999"').replace(b'"A2"', b'"A999999999"'))
    with pytest.raises(DataError, match=r"b\.xlsx: has a row number over 1,048,576") as error:
        list(each(tmp_path / "b.xlsx", "b.xlsx", "xlsx"))
    assert "canary" not in str(error.value)


def test_metadata_that_is_nested_deeply_is_passed_over(tmp_path):
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [record.fields for record in each(tmp_path / "a.parquet", "a.parquet", "parquet")] == [{"text": "a"}]


def test_a_json_row_is_read_strictly_and_not_without_bound(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "canary", "text": "x"}\n{"text": "' + "a" * (5 << 20) + '"}\n')
    problems = [record.problem for record in each(tmp_path / "a.jsonl", "a.jsonl", "jsonl")]
    assert problems[0] == "not valid JSON: an object repeats a key"
    assert problems[1].startswith("the row is too long: 5,242,893 bytes, must be <= 4,194,304")
    (tmp_path / "a.json").write_text('[{"text": "canary",\n "text": "x"}]')
    with pytest.raises(DataError, match=r"a\.json: not valid JSON: an object repeats a key"):
        list(each(tmp_path / "a.json", "a.json", "json"))
