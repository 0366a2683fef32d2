"""File formats: what is read, and that a broken file is named by place and never by content."""

import io
import zipfile

import pytest

from guard.data.formats import read
from guard.errors import DataError


def records(tmp_path, name, content, format, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read(path, name, format, **options))


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


def test_first_column_leaves_out_rows_longer_than_the_first(tmp_path):
    found = records(tmp_path, "a.csv", "one,x\ntwo\nthree,x,y\nfour,\n", "first_column")
    assert [record.fields["text"] for record in found] == ["one", "two", "four"]


def test_first_column_of_a_workbook(tmp_path):
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    cells = (
        '<row><c r="A1" t="s"><v>1</v></c><c r="B1" t="s"><v>0</v></c></row>'
        '<row><c r="A2" t="inlineStr"><is><t>in place</t></is></c></row><row><c r="A3"/></row>'
    )
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{cells}</sheetData></worksheet>")
        strings = "<si><t>second column</t></si><si><r><t>sha</t></r><r><t>red</t></r></si>"
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{strings}</sst>")
    found = records(tmp_path, "a.xlsx", raw.getvalue(), "first_column")
    assert [(record.number, record.fields["text"]) for record in found] == [(1, "shared"), (2, "in place")]


@pytest.mark.parametrize(
    ("name", "content", "format", "options", "message"),
    [
        ("a.csv", "a,b\n1,2\ncanary\n", "csv", {}, "a.csv row 2: has 1 fields, the header names 2"),
        ("a.jsonl", '{"a": 1}\n{"canary\n', "jsonl", {}, "a.jsonl row 2: not valid JSON"),
        ("a.jsonl", '["canary"]\n', "jsonl", {}, "a.jsonl row 1: must be a JSON object, not list"),
        ("a.json", '["canary"', "json", {}, "a.json: not valid JSON at line 1"),
        ("a.json", '{"canary": 1}', "json", {"at": "rows"}, "must be a JSON object with the key `rows`"),
        ("a.txt", b"canary \xff", "lines", {}, "a.txt: byte 7 is not utf-8"),
        ("a.xlsx", b"canary", "first_column", {}, "a.xlsx: is not an Excel workbook"),
    ],
)
def test_broken_files_are_named_without_their_text(tmp_path, name, content, format, options, message):
    with pytest.raises(DataError) as error:
        records(tmp_path, name, content, format, **options)
    assert message in str(error.value)
    assert "canary" not in str(error.value)


def test_undecodable_bytes_can_be_replaced_and_other_encodings_read(tmp_path):
    assert records(tmp_path, "a.txt", b"a\xffb", "lines", undecodable="replace")[0].fields == {"text": "a\ufffdb"}
    assert records(tmp_path, "b.txt", "围墙".encode("gb18030"), "lines", encoding="gb18030")[0].fields == {
        "text": "围墙"
    }


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
        list(read(tmp_path / "gone.csv", "gone.csv", "csv"))
