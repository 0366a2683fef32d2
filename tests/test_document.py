"""YAML documents: what each scalar means, what is refused, and that what is written is what is parsed."""

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guard import document
from guard.errors import DocumentError


def scalar(text: str) -> Any:
    return document.parse(f"key: {text}\n", "f.yaml")[0]["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("no", "yes", "on", "off", "y", "n", "NO", "Off")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("~", "null", "Null", "NULL", "")),
        ("2e-4", 2e-4),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e+2", -50.0),
        ("+1.5", 1.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("012", 12),
        ("-7", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("2024-01-02 03:04:05", "2024-01-02 03:04:05"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("-", None),  # a list that holds null, checked below
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("nullable", "nullable"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    if text == "-":
        assert document.parse("-\n", "f.yaml")[0] == [None]
        return
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(scalar(".nan"))


@pytest.mark.parametrize("key", ["1", "no", "true", "null", "2024-01-02", "<<", "1.5", "~"])
def test_keys_are_the_text_that_was_written(key: str) -> None:
    assert document.parse(f"{key}: 1\n", "f.yaml")[0] == {key: 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f.yaml: the document is empty"),
        ("# only a comment\n", "f.yaml: the document is empty"),
        ("a: &x 1\nb: *x\n", "f.yaml:2: not valid YAML: aliases (*name) are not supported; write the value out"),
        (
            "a: {x: 1}\nb:\n  <<: *a\n",
            "f.yaml:3: not valid YAML: aliases (*name) are not supported; write the value out",
        ),
        (
            "\na: !!python/object/apply:os.getcwd []\n",
            "f.yaml:2: not valid YAML: tags (!name) are not supported; write plain data",
        ),
        ("a: !!int x\n", "f.yaml:1: not valid YAML: tags (!name) are not supported; write plain data"),
        ("!!merge a: 1\n", "f.yaml:1: not valid YAML: tags (!name) are not supported; write plain data"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: another document starts here; a file holds one"),
        ("a:\n\t- x\n", "f.yaml:2: not valid YAML: indented with a tab; use spaces"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: key `a` was already given on line 1"),
        ("a: 1\n'a': 2\n", "f.yaml:2: key `a` was already given on line 1"),
        ("a:\n  - b: 1\n    b: 1\n", "f.yaml:3: key `b` was already given on line 2"),
        ("? [a]\n: b\n", "f.yaml:1: a key must be plain text"),
        ("a: 1\nb: " + "9" * 5000, "f.yaml:2: not a valid int"),
        ('a: "\\ud800"\n', "f.yaml:1: not a valid str"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("[" * 500 + "]" * 500, "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
        ("[" * 100_000, "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
        ("- " * 3000 + "x", "f.yaml:1: not valid YAML: the document is nested deeper than 32 levels"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(DocumentError) as caught:
        document.parse(text, "f.yaml")
    assert str(caught.value) == told


def test_unreadable_escape_and_control_characters_are_document_errors() -> None:
    for text in ('"\\UFFFFFFFF"', "a: \x00", "%YAML " + "9" * 5000 + ".1\n--- a"):
        with pytest.raises(DocumentError, match=r"^f\.yaml: not valid YAML: "):
            document.parse(text, "f.yaml")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=40), inner, max_size=4),
    max_leaves=12,
)
tricky = st.sampled_from(
    ["no", "1e3", "08", "0o17", "1_0", "1:30", "<<", "=", "~", "", " x", "x ", "- a", "#a", "2024-01-02"]
)


@given(plain | st.lists(tricky) | st.dictionaries(tricky, tricky))
def test_what_is_dumped_reads_back_here_and_in_other_readers(data: Any) -> None:
    text = document.dump(data)
    assert document.parse(text, "f.yaml")[0] == data
    assert yaml.safe_load(text) == data


@given(plain)
def test_json_is_read_as_json(data: Any) -> None:
    compact = json.dumps(data, separators=(",", ":")).replace("\x7f", "\\u007f")  # YAML wants DEL escaped
    assert document.parse(compact, "f.yaml")[0] == data


# What PyYAML's parser and libyaml's might cut differently.
MARKS = ": -?[]{},&*!|>'\"%@`~.a1é😀\n\t\r\0\x85\u2028\ufeff"
FORMS = [
    "- ",
    "key: ",
    "\n  ",
    "'x'",
    '"y"',
    "---\n",
    "|\n  t\n",
    ">-\n t\n",
    "<<: ",
    "# c\n",
    " #",
    "{a: b}",
    '"a\\\n b"',
]
pieces = st.sampled_from([*MARKS, *FORMS])


@given(st.lists(pieces, max_size=14).map("".join))
def test_a_document_says_the_same_to_both_parsers(text: str) -> None:
    def read(kind: type[Any]) -> Any:
        try:
            root = document._nodes(kind, text, None)
        except document._ERRORS:
            return None
        return root and document._build(root, (), "f.yaml", {}, [])

    if "\t" not in text and "\ufeff" not in text:  # such a text is never given to libyaml
        plain = read(document._Reader)
        assert plain is None or read(document._FAST) in (plain, None)
