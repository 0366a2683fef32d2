"""Conversion: rows are conserved, read back the same, and written in the forms that trainers take."""

import csv
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard.cli.convert import convert as command
from guard.data.build import write
from guard.data.dataset.convert import convert
from guard.data.dataset.examples import load_examples
from guard.data.ingest.user_rows import read_labelled
from guard.data.sources.user_files import Categories, Columns, Labels, Mapping
from guard.errors import ConfigError, DataError
from guard.policy import load

RULES = load("mlcommons")
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
ANSWER = {"role": "assistant", "content": "Hi."}
ROWS = [
    {"id": "1", "prompt": "How do I prune a rose?", "label": "safe"},
    {"id": "2", "prompt": "How do I steal a rose?", "label": "unsafe", "categories": ["S10", "S2"]},
    {"id": "3", "prompt": "Why?", "response": "Because.", "label": "unsafe"},
    {"id": "4", "messages": [*TURNS, ANSWER], "label": "safe", "language": "en"},
    {"id": "5", "messages": TURNS, "label": "unsafe", "categories": ["S9"], "undecided": ["S2"]},
    {"id": "6", "prompt": "Is moss rude?", "label": "unlabelled"},
]
PAIRS = [{"prompt": "Help me steal", "chosen": "No.", "rejected": "Sure."}]


def lines(path, rows=None):
    if rows is not None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def own(tmp_path):
    return lines(tmp_path / "own.jsonl", ROWS)


def told(tally):
    assert tally.read == tally.written + sum(tally.left_out.values()) + tally.broken.count
    return tally.read, tally.written, dict(tally.left_out), tally.broken.count


def test_guards_own_rows_stay_as_they_are(own, tmp_path):
    out = tmp_path / "out.jsonl"
    assert told(convert(own, out, RULES)) == (6, 6, {}, 0)
    assert lines(out) == [{**row, "source": "own", "licence": "not stated"} for row in ROWS]
    again = tmp_path / "again.jsonl"
    convert(out, again, RULES)
    assert lines(again) == [{**row, "source": "out", "licence": "not stated"} for row in ROWS]


def test_parquet_is_a_split_of_a_build(own, tmp_path):
    (tmp_path / "data").mkdir()
    out = tmp_path / "data" / "train.parquet"
    assert told(convert(own, out, RULES)) == (6, 5, {"unlabelled": 1}, 0)
    assert pq.read_schema(out).equals(write.features().arrow_schema)
    examples = load_examples(tmp_path / "data", "train")
    for example, same in zip(examples, read_labelled(own, RULES), strict=True):
        names = ("id", "conversation", "label", "categories", "undecided", "language", "licence", "kind")
        assert [getattr(example, name) for name in names] == [getattr(same, name) for name in names]
    back = tmp_path / "back.jsonl"
    assert told(convert(out, back, RULES)) == (5, 5, {}, 0)
    assert lines(back) == [{**row, "source": "own", "licence": "not stated"} for row in ROWS[:5]]


def test_chats_end_with_the_verdict_under_the_policy(own, tmp_path):
    out = tmp_path / "out.jsonl"
    assert told(convert(own, out, RULES, "chat")) == (6, 5, {"unlabelled": 1}, 0)
    made = lines(out)
    assert [row["completion"][0]["content"] for row in made] == [
        "safe",
        "unsafe\nS2,S10",
        "unsafe",
        "safe",
        "unsafe\nS9",
    ]
    assert {row["completion"][0]["role"] for row in made} == {"assistant"}
    assert made[3]["prompt"] == [*TURNS, ANSWER]
    stored = tmp_path / "stored.parquet"
    convert(own, stored, RULES)
    convert(stored, out, RULES.without(["S10", "S2"]), "chat")
    assert [row["completion"][0]["content"] for row in lines(out)] == ["safe", "safe", "unsafe", "safe", "unsafe\nS9"]


def test_responses_for_kto(own, tmp_path):
    out = tmp_path / "out.jsonl"
    left_out = {"not a response to a prompt": 3, "unlabelled": 1}
    assert told(convert(own, out, RULES, "kto")) == (6, 2, left_out, 0)
    first, second = lines(out)
    assert first == {
        "prompt": [{"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "Because."}],
        "label": False,
    }
    assert second == {"prompt": TURNS, "completion": [ANSWER], "label": True}


def test_pairs_for_preference_learning_and_back(tmp_path):
    source, out, stored = lines(tmp_path / "a.jsonl", PAIRS), tmp_path / "out.jsonl", tmp_path / "out.parquet"
    convert(source, out, RULES, "preference")
    assert lines(out) == [
        {
            "prompt": [{"role": "user", "content": "Help me steal"}],
            "chosen": [{"role": "assistant", "content": "No."}],
            "rejected": [{"role": "assistant", "content": "Sure."}],
        }
    ]
    convert(source, stored, RULES)
    assert pq.read_schema(stored).equals(write.pair_features().arrow_schema)
    for given_ in (source, stored):
        convert(given_, out, RULES)
        (row,) = lines(out)
        assert {name: row[name] for name in PAIRS[0]} == PAIRS[0]
    for target in ("chat", "kto"):
        with pytest.raises(DataError, match=rf"has no row that can be written as {target} \(a pair: 1\)"):
            convert(stored, tmp_path / "none.jsonl", RULES, target)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.slow
def test_what_trl_takes(own, tmp_path):
    """The rows have the columns and message lists by which TRL tells the kinds of data sets apart."""
    trl = pytest.importorskip("trl.data_utils")
    for target, source in (("chat", own), ("kto", own), ("preference", lines(tmp_path / "p.jsonl", PAIRS))):
        convert(source, tmp_path / f"{target}.jsonl", RULES, target)
        assert all(trl.is_conversational(row) for row in lines(tmp_path / f"{target}.jsonl"))


def test_broken_rows_leave_no_output_unless_they_are_dropped(tmp_path):
    source = lines(tmp_path / "a.jsonl", [{"prompt": "canary", "label": "canary"}] * 12 + ROWS[:2])
    out = tmp_path / "out.jsonl"
    out.write_text("earlier")
    with pytest.raises(DataError) as error:
        convert(source, out, RULES)
    shown = str(error.value).splitlines()
    assert len(shown) == 12
    assert shown[1].startswith("a.jsonl row 1: field `label` holds a label (6 characters)")
    assert shown[-1] == "… and 2 more broken rows"
    assert "canary" not in str(error.value)
    assert out.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out.jsonl"]
    tally = convert(source, out, RULES, mapping=Mapping(on_broken="drop"))
    assert told(tally) == (14, 2, {}, 12)
    assert [row["id"] for row in lines(out)] == ["1", "2"]


@pytest.mark.parametrize(
    ("out", "to", "message"),
    [
        ("out.csv", None, r"unknown suffix '\.csv'; allowed: \.jsonl, \.ndjson, \.parquet"),
        ("out.parquet", "chat", "it can be parquet, but not chat"),
        ("out.jsonl", "parquet", "it can be jsonl, chat, kto, preference, but not parquet"),
        ("gone/out.jsonl", None, "must be a file in an existing folder"),
        ("own.jsonl", None, "and not the input"),
    ],
)
def test_an_output_that_cannot_be(own, tmp_path, out, to, message):
    with pytest.raises((ConfigError, DataError), match=message):
        convert(own, tmp_path / out, RULES, to)
    assert lines(own) == ROWS


def test_a_mapping_is_for_files_of_ones_own(own, tmp_path):
    convert(own, tmp_path / "out.parquet", RULES)
    with pytest.raises(ConfigError, match="has no columns to be mapped"):
        convert(tmp_path / "out.parquet", tmp_path / "out.jsonl", RULES, mapping=Mapping())


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip).map(str.strip)
CODES = st.lists(st.sampled_from(RULES.codes), max_size=3, unique=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TEXT, st.none() | TEXT, st.sampled_from(["yes", "no", "?", "broken"]), CODES), min_size=1))
def test_rows_are_conserved_and_read_back_the_same(table):
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "a.csv", Path(folder) / "out.jsonl"
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["q", "a", "v", "c"])
            writer.writerows([q, a, v, ";".join(codes if v != "no" else ())] for q, a, v, codes in table)
        mapping = Mapping(
            columns=Columns(prompt="q", response="a", label="v", categories="c"),
            labels=Labels(safe=("no",), unsafe=("yes",), unlabelled=("?",)),
            categories=Categories(separator=";"),
            on_broken="drop",
        )
        whole = [row for row in table if row[2] != "broken"]
        if not whole:
            with pytest.raises(DataError, match="none is whole"):
                convert(source, out, RULES, mapping=mapping)
            return
        assert told(convert(source, out, RULES, mapping=mapping)) == (
            len(table),
            len(whole),
            {},
            len(table) - len(whole),
        )
        labels = {"no": "safe", "yes": "unsafe", "?": "unlabelled"}
        for row, (q, a, v, codes) in zip(lines(out), whole, strict=True):
            assert (row["prompt"], row.get("response"), row["label"]) == (q, a, labels[v])
            assert row.get("categories", []) == (codes if v != "no" else [])


def test_texts_that_no_encoding_holds_are_repaired(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('{"prompt": "a\\ud800b", "label": "safe"}\n')
    for name in ("out.jsonl", "out.parquet"):
        convert(source, tmp_path / name, RULES)
    assert lines(tmp_path / "out.jsonl")[0]["prompt"] == "a\ufffdb"
    assert pq.read_table(tmp_path / "out.parquet")["messages"][0][0]["content"].as_py() == "a\ufffdb"


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(command)

    def run(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments)])

    return run


def test_the_command_tells_what_became_of_the_rows(run, own, tmp_path):
    done = run(own, tmp_path / "out.jsonl", "--to", "kto")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "read 6 = written 2 + left out 4 + broken 0",
        "  left out, not a response to a prompt: 3",
        "  left out, unlabelled: 1",
        f"wrote {tmp_path / 'out.jsonl'}",
    ]


def test_the_command_reads_a_mapping_file_and_a_policy(run, tmp_path):
    (tmp_path / "a.tsv").write_text("frage\turteil\nWie?\tgut\nWarum?\tschlecht\nNie\tcanary\n")
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "columns: {text: frage, label: urteil}\nlabels: {safe: [gut], unsafe: [schlecht]}\non_broken: drop\n"
    )
    done = run(tmp_path / "a.tsv", tmp_path / "out.jsonl", "--columns", mapping, "--policy", "minimal")
    assert done.exit_code == 0, done.output
    assert "read 3 = written 2 + left out 0 + broken 1" in done.stdout
    assert "a.tsv row 3: field `urteil` holds a label (6 characters)" in done.stderr
    assert "canary" not in done.output
    assert [row["label"] for row in lines(tmp_path / "out.jsonl")] == ["safe", "unsafe"]
    mapping.write_text("columns: {txt: frage}\n")
    done = run(tmp_path / "a.tsv", tmp_path / "out.jsonl", "--columns", mapping)
    assert isinstance(done.exception, ConfigError)
    assert "did you mean `text`" in str(done.exception)


def test_a_split_of_a_saved_data_set(run, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "in").mkdir(exist_ok=True)
        lines(tmp_path / "in" / f"{split}.jsonl", ROWS[:2] if split == "train" else ROWS[2:3])
    done = run(tmp_path / "in", tmp_path / "out.parquet", "--split", "test")
    assert done.exit_code == 0, done.exception
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["3"]
    done = run(tmp_path / "in", tmp_path / "out.parquet")
    assert "has the splits test, train; choose one" in str(done.exception)


def test_a_stored_table_keeps_what_it_does_not_know(tmp_path):
    """Later builds may have more columns: they are read, and written where the target has a place for them."""
    stored = tmp_path / "a.parquet"
    names = write.features().arrow_schema.names
    row = {**dict.fromkeys(names), "id": "x", "messages": TURNS, "label": "unsafe", "categories": ["S77"], "more": 1}
    row |= {"categories_known": True, "source": "s", "licence": "MIT", "language": "en", "undecided": []}
    pq.write_table(pa.Table.from_pylist([row]), stored)
    convert(stored, tmp_path / "out.jsonl", RULES)
    assert lines(tmp_path / "out.jsonl") == [
        {
            "id": "x",
            "messages": TURNS,
            "label": "unsafe",
            "categories": ["S77"],
            "language": "en",
            "source": "s",
            "licence": "MIT",
        }
    ]
