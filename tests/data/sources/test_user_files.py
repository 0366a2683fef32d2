"""Users' own files: columns and label words as they come, the same rows from every format, mistakes told by place."""

import csv
import json
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import document, schema
from guard.data.dataset.examples import load_examples
from guard.data.ingest import source_rows
from guard.data.ingest.user_description import check, describe
from guard.data.ingest.user_rows import read_labelled
from guard.data.sources.user_files import Mapping, UserData, load_mapping, spelled
from guard.errors import ConfigError, DataError
from guard.policy import load

RULES = load("mlcommons")
FORMATS = ("csv", "tsv", "jsonl", "json", "xlsx", "parquet", "arrow")
QUESTIONS = ["How do I prune a rose?", "How do I steal a hedge?", "Is moss a plant?", "Whom can I sting?"]


def entry(text):
    return schema.convert(document.parse(text, "a.yaml", ConfigError)[0], UserData, "a.yaml", error=ConfigError)


def described(path, **settings):
    return describe(entry(document.dump({"path": path.name, **settings})), path.parent, RULES)


def rows(path, **settings):
    found = described(path, **settings)
    return list(source_rows.each(found.source, found.root, found.crosswalk, RULES))


def facts(row):
    return row.messages, row.label, row.categories, row.undecided, row.language, row.given_id, row.kind


def problems(path, **settings):
    return [found.problem for found in rows(path, **settings) if isinstance(found, source_rows.Broken)]


def write(path, *records, encoding="utf-8"):
    """The records in the format of the suffix; every value is one that the format has a cell for."""
    names = list(dict.fromkeys(name for record in records for name in record))
    format = path.suffix.removeprefix(".")
    if format in ("csv", "tsv"):
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, names, delimiter="," if format == "csv" else "\t")
            writer.writeheader()
            writer.writerows(records)
    elif format == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding=encoding)
    elif format == "json":
        path.write_text(json.dumps(records))
    elif format == "xlsx":
        book = openpyxl.Workbook()
        book.active.append(names)
        for record in records:
            book.active.append([record.get(name) for name in names])
        book.save(path)
    else:
        table = pa.Table.from_pylist([dict.fromkeys(names) | record for record in records])
        if format == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
    return path


# -- every format -----------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_rows(tmp_path):
    answers = [None, "With a ladder.", "It is.", None]
    words, topics = ["ok", "bad", "ok", "unsure"], ["", "S2, S9", None, ""]
    records = [
        {"question": q, "answer": a, "verdict": w, "topics": t, "number": n, "customer": "a" if n < 2 else None}
        for n, (q, a, w, t) in enumerate(zip(QUESTIONS, answers, words, topics, strict=True))
    ]
    columns = {"prompt": "question", "response": "answer", "label": "verdict", "categories": "topics"}
    labels = {"safe": ["OK"], "unsafe": ["bad"], "unlabelled": ["unsure"]}
    settings = {"columns": columns | {"id": "number", "group": "customer"}, "labels": labels, "language": "en"}
    found = {format: rows(write(tmp_path / f"a.{format}", *records), **settings) for format in FORMATS}
    first = found["csv"]
    assert [row.label for row in first] == ["safe", "unsafe", "safe", "unlabelled"]
    assert [row.categories for row in first] == [(), ("S2", "S9"), (), None]
    assert [row.kind for row in first] == ["prompt", "response", "response", "prompt"]
    assert [row.given_id for row in first] == ["0", "1", "2", "3"]
    assert [bool(row.groups) for row in first] == [True, True, False, False]
    assert len({row.groups for row in first[:2]}) == 1
    for format in FORMATS:
        assert [facts(row) for row in found[format]] == [facts(row) for row in first], format


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("column", "cells", "settings", "labels"),
    [
        ("label", [1, 0], {"labels": {"unsafe": [1], "safe": [0]}}, ["unsafe", "safe"]),
        ("label", [1.0, 0.0], {"labels": {"unsafe": ["1"], "safe": ["0"]}}, ["unsafe", "safe"]),
        ("label", [True, False], {"labels": {"unsafe": [True], "safe": [False]}}, ["unsafe", "safe"]),
        ("label", [" Unsafe", "SAFE"], {}, ["unsafe", "safe"]),
        ("Label", ["unsafe", "hm"], {"labels": {"otherwise": "safe"}}, ["unsafe", "safe"]),
        ("label", ["unsafe", None], {"labels": {"otherwise": "safe"}}, ["unsafe", "safe"]),
        ("toxic", [True, False], {"columns": {"label": "toxic"}}, ["unsafe", "safe"]),
        ("is_safe", [1, 0], {"columns": {"label": "is_safe"}}, ["safe", "unsafe"]),
        ("note", ["x", "y"], {"labels": {"otherwise": "unsafe"}}, ["unsafe", "unsafe"]),
    ],
)
def test_label_words(tmp_path, format, column, cells, settings, labels):
    records = [{"text": text, column: cell} for text, cell in zip(QUESTIONS[1:3], cells, strict=True)]
    assert [row.label for row in rows(write(tmp_path / f"a.{format}", *records), **settings)] == labels


def test_a_bare_number_says_not_which_side_is_safe(tmp_path):
    path = write(tmp_path / "a.csv", {"text": "a", "label": 1})
    (problem,) = problems(path)
    assert problem == (
        "field `label` holds a label (1 characters) that the label rule does not list; it lists: "
        "safe, unsafe, unlabelled"
    )


@settings(max_examples=25)
@given(
    st.one_of(
        st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text("aÉ1 .-", max_size=4)
    )
)
def test_a_label_word_is_found_as_each_format_writes_it(word):
    from guard.policy.crosswalk import fold

    assert fold(word) in spelled([word])
    if isinstance(word, int) and not isinstance(word, bool) and abs(word) < 10**15:
        assert (
            {str(word), str(float(word))} == {*spelled([word])} == {*spelled([str(word)])} == {*spelled([float(word)])}
        )


# -- categories -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("a.jsonl", ["S1", "S10"]),
        ("a.parquet", ["S1", "S10"]),
        ("a.csv", "S1, S10"),
        ("a.csv", '["S1", "S10"]'),
        ("a.xlsx", "S1,S10,"),
    ],
)
def test_categories_as_a_list_or_a_text(tmp_path, name, cell):
    path = write(tmp_path / name, {"text": "a", "label": "unsafe", "categories": cell})
    assert [row.categories for row in rows(path)] == [("S1", "S10")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_flag_without_a_value_is_undecided_and_not_negative(tmp_path, format):
    records = [
        {"text": "a", "hate": True, "weapons": False},
        {"text": "b", "hate": None, "weapons": True},
        {"text": "c", "hate": False, "weapons": None},
        {"text": "d", "hate": False, "weapons": False},
    ]
    flags = {"categories": {"flags": {"hate": "S10", "weapons": "S9"}}}
    found = rows(write(tmp_path / f"a.{format}", *records), **flags)
    assert [(row.label, row.categories, row.undecided) for row in found] == [
        ("unsafe", ("S10",), ()),
        ("unsafe", ("S9",), ("S10",)),
        ("unlabelled", None, ()),
        ("safe", (), ()),
    ]


@pytest.mark.parametrize("missing", ["", "NaN", "null", float("nan"), None])
def test_what_stands_for_a_missing_flag(tmp_path, missing):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "S2": missing, "S9": 1}) + "\n")
    (row,) = rows(path, categories={"flags": {"S2": "S2", "S9": "S9"}})
    assert (row.categories, row.undecided) == (("S9",), ("S2",))


def test_flags_inside_an_object_and_beside_a_label(tmp_path):
    records = [
        {"text": "a", "label": "unsafe", "scores": {"S2": True, "S9": None}},
        {"text": "b", "label": "safe", "scores": {"S2": True, "S9": False}},
        {"text": "c", "label": "unsafe", "scores": {"S2": "maybe", "S9": False}},
    ]
    flags = {"categories": {"flags": {"scores.S2": "S2", "scores.S9": "S9"}}}
    first, second, third = rows(write(tmp_path / "a.jsonl", *records), **flags)
    assert (first.categories, first.undecided) == (("S2",), ("S9",))
    assert "a safe row violates no category" in second.problem
    assert third.problem.startswith("flag `scores.S2` must be one of: 1, 1.0, true")


def test_unknown_categories_are_not_no_categories(tmp_path):
    records = [{"text": "a", "label": "unsafe", "categories": c} for c in (None, [], ["S1"], ["S1", "S1"])]
    records += [{"text": "b", "label": "unsafe"}, {"text": "c", "label": "safe", "categories": []}]
    found = rows(write(tmp_path / "a.jsonl", *records))
    assert [row.categories for row in found] == [None, None, ("S1",), ("S1",), None, ()]


def test_a_crosswalk_of_ones_own(tmp_path):
    records = [{"text": "a", "label": "unsafe", "topic": t} for t in ("Hate", "arms; hate", "other", "spam", None)]
    crosswalk = {"hate": "S10", "arms": ["S9", "S1"], "other": []}
    settings = {"columns": {"categories": "topic"}, "categories": {"separator": ";", "crosswalk": crosswalk}}
    path = write(tmp_path / "a.csv", *records)
    *known, unlisted, missing = rows(path, **settings)
    assert [row.categories for row in known] == [("S10",), ("S9", "S1", "S10"), None]
    assert "holds a native label (4 characters) that crosswalk of a does not list" in unlisted.problem
    assert missing.categories is None
    with pytest.raises(ConfigError, match=r"of a: 'hate': .*no category S77"):
        rows(path, columns={"categories": "topic"}, categories={"crosswalk": {"hate": "S77"}})


def test_a_comma_in_a_native_label_parts_nothing(tmp_path):
    path = write(tmp_path / "a.csv", {"text": "a", "label": "unsafe", "categories": "Guns, knives"})
    crosswalk = {"guns, knives": "S9"}
    assert [row.categories for row in rows(path, categories={"crosswalk": crosswalk})] == [("S9",)]
    with pytest.raises(ConfigError, match="is also inside labels of crosswalk of a"):
        rows(path, categories={"crosswalk": crosswalk, "separator": ","})


def test_a_shipped_crosswalk_and_categories_that_are_always_the_same(tmp_path):
    from guard.policy import crosswalk

    name = next(name for name in crosswalk.names() if crosswalk.load(name).policy == "mlcommons")
    label, codes = next(iter(crosswalk.load(name).mapped.items()))
    path = write(tmp_path / "a.jsonl", {"text": "a", "label": "unsafe", "categories": [label]})
    assert [row.categories for row in rows(path, categories={"crosswalk": name})] == [codes]
    path = write(tmp_path / "b.csv", {"text": "a", "label": "unsafe"}, {"text": "b", "label": "safe"})
    assert [row.categories for row in rows(path, categories={"always": ["S9"]})] == [("S9",), ()]


# -- texts ------------------------------------------------------------------------------------------------------------


def test_messages_as_a_list_and_as_json_in_a_cell(tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'Hello, "you"'},
        {"role": "assistant", "content": "Hi\nthere"},
    ]
    records = [{"messages": turns, "label": "safe"}, {"messages": turns[:2], "label": "safe"}]
    packed = [{**record, "messages": json.dumps(record["messages"])} for record in records]
    for name, given_ in (("a.jsonl", records), ("a.parquet", records), ("a.csv", packed), ("a.xlsx", packed)):
        found = rows(write(tmp_path / name, *given_))
        assert [row.messages for row in found] == [
            tuple((turn["role"], turn["content"]) for turn in record["messages"]) for record in records
        ]
        assert [row.kind for row in found] == ["response", "prompt"]


def test_rows_of_both_shapes_in_one_file(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "a", "label": "safe"},
        {"messages": turns, "label": "safe"},
        {"prompt": "a", "response": "b", "label": "safe"},
        {"messages": turns[1:], "label": "safe"},
        {"messages": [{"role": "tool", "content": "a"}], "label": "safe"},
        {"label": "safe"},
    )
    *found, broken = rows(path)
    assert [row.messages for row in found[:3]] == [(("user", "a"),), *[(("user", "a"), ("assistant", "b"))] * 2]
    assert found[4].messages == (("tool", "a"),)
    assert broken.problem == "the row has no value for `messages`, `prompt` or `response`"
    path.write_text("".join(path.read_text().splitlines(True)[:5]))
    conversations = [example.conversation for example in read_labelled(path, RULES)]
    assert [[message.role for message in each.messages] for each in conversations] == [
        ["user"],
        ["user", "assistant"],
        ["user", "assistant"],
        ["assistant"],
        ["tool"],
    ]


def test_csv_as_other_programs_write_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefftext,label\r\n"two\r\nlines, ""quoted""",safe\r\n\r\nplain,unsafe\r\n'.encode())
    assert [(row.prompt, row.label) for row in rows(path)] == [
        ('two\r\nlines, "quoted"', "safe"),
        ("plain", "unsafe"),
    ]
    write(path, {"text": "Zäune", "label": "safe"}, encoding="latin-1")
    assert [row.prompt for row in rows(path, encoding="latin-1")] == ["Zäune"]
    with pytest.raises(DataError, match=r"a\.csv: byte 13 is not utf-8"):
        rows(path)


def test_language_column_or_constant_or_neither(tmp_path):
    records = [{"text": "a", "label": "safe", "language": "EN"}, {"text": "b", "label": "safe", "language": None}]
    for format in FORMATS:
        path = write(tmp_path / f"a.{format}", *records)
        assert [row.language for row in rows(path)] == ["en", "und"], format
        assert [row.language for row in rows(path, language="de")] == ["de", "de"]
        by_column = rows(path, language="de", columns={"language": "language"})
        assert [row.language for row in by_column] == ["en", "de"]
    assert [row.language for row in rows(write(tmp_path / "b.csv", {"text": "a", "label": "safe"}))] == ["und"]


def test_pairs(tmp_path):
    path = write(tmp_path / "a.csv", {"prompt": "a", "chosen": "no", "rejected": "yes"}, {"prompt": "b", "chosen": "x"})
    pair, broken = rows(path)
    assert (pair.kind, pair.response, pair.rejected, pair.label) == ("pair", "no", "yes", "unlabelled")
    assert broken.problem == "`rejected` is empty; a pair needs both answers"


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        (
            {"Question": 1, "label": 1},
            {},
            "has no column `prompt`, `text` or `messages`; name one in `columns`. It has",
        ),
        ({"text": 1}, {}, r"has no column `label`; name it in `columns`.*otherwise: unsafe.*It has: `text`"),
        (
            {"question": 1, "lable": 1},
            {"columns": {"text": "Question", "label": "lable"}},
            "has no column `Question`; did you mean `question`[?] It has: `question`, `lable`",
        ),
        ({"text": 1, "prompt": 1, "label": 1}, {}, "has columns `text` and `prompt`; say with `columns` which"),
        ({"text": 1, "label": 1}, {"columns": {"id": "nr"}}, r"has no column `nr`\. It has: `text`, `label`$"),
        ({"text": 1, "label": 1}, {"categories": {"flags": {"S1": "S1"}}}, "has no column `S1`"),
        ({"text": 1, "label": 1, "a": 1}, {"categories": {"flags": {"a": "S77"}}}, "no category S77"),
        ({"text": 1, "label": 1}, {"split": "train"}, "is one file and has no splits"),
        ({"label": 1} | {f"c{n}": 1 for n in range(32)}, {}, r"It has: `label`, `c0`, .*`c28` and 3 more$"),
        ({"canary " * 9: 1, "label": 2}, {}, r"It has: \(63 characters\), `label`$"),
    ],
)
@pytest.mark.parametrize("format", ["csv", "jsonl", "xlsx", "parquet"])
def test_bad_headers_are_told_before_the_rows_are_read(tmp_path, format, record, settings, message):
    path = write(tmp_path / f"a.{format}", record)
    with pytest.raises(ConfigError, match=message) as error:
        described(path, **settings)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("format", ["csv", "tsv", "xlsx"])
@pytest.mark.parametrize("settings", [{}, {"columns": {"text": "question"}}])
def test_a_first_row_that_is_no_header_is_not_shown(tmp_path, format, settings):
    path = write(tmp_path / f"a.{format}", {"canary": "canary", "unsafe": "safe"})
    message = "None of its 2 columns has a name that is known; is the first row the header"
    with pytest.raises(ConfigError, match=message) as error:
        described(path, **settings)
    assert "canary" not in str(error.value)


def test_the_first_ten_broken_rows_are_shown_and_the_others_counted(tmp_path):
    records = [
        {"text": "canary", "label": "canary"},
        {"text": " ", "label": "safe"},
        {"text": "canary", "label": "unsafe", "categories": "canary,S1"},
        {"text": "canary", "label": "safe", "categories": "S1"},
        {"text": "canary", "label": ""},
    ]
    path = write(tmp_path / "a.csv", {"text": "a", "label": "safe"}, *(records * 3))
    text = path.read_text() + "canary\n"
    path.write_text(text)
    found = described(path)
    with pytest.raises(DataError) as error:
        check(found, RULES)
    shown = str(error.value).splitlines()
    assert "canary" not in str(error.value)
    assert shown[0] == "a:"
    assert shown[1].startswith("a.csv row 2: field `label` holds a label (6 characters) that the label rule does not")
    assert shown[2] == "a.csv row 3: the judged (last) message is empty; send at least one visible character"
    assert shown[3].startswith("a.csv row 4: `categories` names 1 codes that are not in the policy; it has: S1, S2")
    assert shown[4].startswith("a.csv row 5: a safe row violates no category; ")
    assert shown[5].startswith("a.csv row 6: field `label` holds a label (0 characters)")
    assert shown[11:] == ["… and 6 more broken rows"]
    path.write_text("".join(text.splitlines(True)[:2]))
    assert check(found, RULES) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.xlsx", "a.parquet", "a.json"])
def test_an_empty_file_or_a_header_alone_is_told(tmp_path, name):
    path = tmp_path / name
    if name in ("a.csv", "a.jsonl"):
        path.touch()
    else:
        write(path)
    with pytest.raises(DataError, match=rf"{name}: has no rows"):
        described(path)
    if name == "a.csv":
        path.write_text("text,label\n")
        with pytest.raises(DataError, match=r"a\.csv: has no rows"):
            described(path)


def test_a_file_whose_first_rows_are_all_broken_shows_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "canary\n" * 12)
    with pytest.raises(DataError, match=r"a\.csv row 1: has 1 fields, the header names 2\n(.|\n)*… and 2 more"):
        described(path)


def test_a_list_inside_an_object_and_a_sheet_are_named_by_at(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"canary": [{"text": "a", "label": "safe"}]}))
    assert [row.prompt for row in rows(path, at="canary")] == ["a"]
    with pytest.raises(ConfigError, match="is one JSON object; name the key of it that holds the list") as error:
        described(path)
    assert "canary" not in str(error.value)
    with pytest.raises(ConfigError, match="`at` names a sheet of a workbook or a key of JSON; leave it out"):
        described(write(tmp_path / "a.csv", {"text": "a", "label": "safe"}), at="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path: a.csv\nlabels: {safe: [1], unsafe: ['1.0']}", r"a\.yaml:2: labels: .*'1.0' is listed under two labels"),
        ("path: a.csv\ncolumns: {text: a, prompt: b}", r"a\.yaml:2: .*both text and prompt"),
        ("path: a.csv\ncolumns: {chosen: a}", "needs both `chosen` and `rejected`"),
        ("path: a.csv\nencoding: nonsense", r"a\.yaml:2: encoding: .*is not an encoding"),
        ("path: a.csv\ncolumns: {categories: a}\ncategories: {flags: {a: S1}}", r"a\.yaml:3: .*not both"),
        ("path: a.csv\ncolumns: {txt: a}", "unknown key `txt`; did you mean `text`"),
        ("path: a.csv\nweight: 0", "weight"),
        ("path: ''", "path"),
    ],
)
def test_a_wrong_description_is_told_by_its_line(text, message):
    data, lines = document.parse(text, "a.yaml", ConfigError)
    with pytest.raises(ConfigError, match=message):
        schema.convert(data, UserData, "a.yaml", lines, ConfigError)


def test_names_with_signs_of_a_pattern_and_files_elsewhere(tmp_path):
    (tmp_path / "in [1]").mkdir()
    path = write(tmp_path / "in [1]" / "a*[b].v2.csv", {"text": "a", "label": "safe"})
    assert described(path).source.name == "a*[b]"
    for given_ in (str(path), "../in [1]/a*[b].v2.csv"):
        found = describe(UserData(path=given_, name="x"), tmp_path / "in [1]", RULES)
        assert [row.source for row in source_rows.each(found.source, found.root, None, RULES)] == ["x"]
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
        described(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match=r"unknown suffix \(\.xls\)"):
        described(write(tmp_path / "a.csv", {"text": "a"}).rename(tmp_path / "a.xls"))


# -- folders, training and evaluation ---------------------------------------------------------------------------------


def test_a_saved_data_set_as_data_of_ones_own(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_dict({"text": QUESTIONS, "label": ["safe", "unsafe", "safe", "unsafe"]})
    datasets.DatasetDict({"train": saved, "test": saved.select([0])}).save_to_disk(tmp_path / "saved")
    found = rows(tmp_path / "saved", split="train")
    assert [(row.prompt, row.place) for row in found] == [
        (text, f"train/data-00000-of-00001.arrow row {number}") for number, text in enumerate(QUESTIONS, 1)
    ]
    with pytest.raises(ConfigError, match="has the splits train, test; choose one"):
        rows(tmp_path / "saved")
    examples = load_examples(tmp_path / "saved" / "train", "train", RULES)
    assert {example.conversation.judged.content for example in examples} <= set(QUESTIONS)


def test_files_of_a_folder_must_all_have_the_columns(tmp_path):
    write(tmp_path / "a.csv", {"text": "a", "label": "safe"})
    write(tmp_path / "b.csv", {"text": "a", "lable": "safe"})
    with pytest.raises(ConfigError, match=r"b\.csv: has no column `label`; did you mean `lable`"):
        describe(UserData(path=str(tmp_path)), Path(), RULES)


def test_examples_of_a_mapped_file(tmp_path):
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "columns: {prompt: q, label: v}\nlabels: {safe: [ok], unsafe: [bad], unlabelled: ['?']}\n"
        "categories: {flags: {arms: S9, hate: S10}}\nlicence: CC0-1.0\n"
    )
    records = [
        {"q": f"question {n}", "v": ["ok", "bad", "?"][n % 3], "arms": n % 3 == 1, "hate": ""} for n in range(90)
    ]
    records = [record | ({"hate": 0} if record["v"] == "ok" else {}) for record in records]
    path = write(tmp_path / "a.csv", *records)
    examples = read_labelled(path, RULES, load_mapping(mapping))
    assert len(examples) == 60
    assert {example.licence for example in examples} == {"CC0-1.0"}
    told = {(e.label, e.categories, e.undecided) for e in examples}
    assert told == {("safe", frozenset(), frozenset()), ("unsafe", frozenset({"S9"}), frozenset({"S10"}))}
    parts = [load_examples(path, split, RULES, load_mapping(mapping)) for split in ("train", "dev")]
    assert [len(part) for part in parts] == [len([e for e in examples if e.split == s]) for s in ("train", "dev")]
    assert all(parts)
    with pytest.raises(DataError, match="rows of your own need a policy"):
        load_examples(path, "train")


def test_broken_rows_can_be_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", {"text": "a", "label": "safe"}, {"text": "b", "label": "?"})
    assert len(read_labelled(path, RULES, Mapping(on_broken="drop"))) == 1
    with pytest.raises(DataError, match=r"a\.jsonl row 2: "):
        read_labelled(path, RULES)


def test_ids_and_the_split_follow_from_the_texts_where_none_are_given(tmp_path):
    one = read_labelled(write(tmp_path / "a.csv", {"text": "a", "label": "safe"}), RULES)
    other = read_labelled(write(tmp_path / "b.jsonl", {"prompt": "a", "label": "unsafe", "id": None}), RULES)
    named = read_labelled(write(tmp_path / "c.jsonl", {"prompt": "a", "label": "safe", "id": 7}), RULES)
    assert one[0].id == other[0].id != named[0].id == "7"
    assert one[0].split == other[0].split == named[0].split


def test_undecided_is_read_back_from_built_data(tmp_path):
    row = {
        "id": "1",
        "messages": [{"role": "user", "content": "a"}],
        "label": "unsafe",
        "categories": ["S1"],
        "categories_known": True,
        "source": "s",
        "licence": "l",
        "language": "en",
        "kind": "prompt",
        "weight": 1.0,
    }
    pq.write_table(pa.Table.from_pylist([{**row, "undecided": ["S2"]}]), tmp_path / "train.parquet")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "dev.parquet")
    assert load_examples(tmp_path, "train")[0].undecided == {"S2"}
    assert load_examples(tmp_path, "dev")[0].undecided == frozenset()
