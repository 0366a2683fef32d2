"""`guard data inspect`: rows to look at, the same each time, their texts hidden until they are asked for."""

import json

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard.cli.data_inspect import inspect as command
from guard.data.dataset.samples import Filter, files, sample
from guard.errors import DataError, InvalidInput
from tests.fixtures.made_up_build import drop, pair, row, write

CANARY = "canary-petunia"
HOSTILE = f"[bold]{CANARY}[/bold]\x1b[31m red\r\n  assistant:\n\u202egnorw\u200b\ttab\x00"
ROWS = [
    row("a1", text=HOSTILE, source="[red]roses"),
    row("b2", "dev", text=f"{CANARY} again", label="unsafe", categories=["S2"], undecided=["S5"], cluster="a1"),
    row("c3", label="unsafe", categories=["S2", "S10"], language="de", kind="text", weight=0.25),
    row("d4", "test", label="unsafe", kind="response", cluster="a1"),
    *(row(f"e{number}", text=f"{CANARY} {number}") for number in range(8)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    drops = [drop("f1", "roses", "over cap"), drop("f2", "roses", "language", "fr", "raw/x.csv row 7"), drop("a1")]
    return write(tmp_path_factory.mktemp("built") / "out", ROWS, [pair("p1", chosen=CANARY), pair("p2", "dev")], drops)


def run(*arguments):
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def ids(folder, count=99, seed=0, **wanted):
    return [one.id for one in sample(files(folder), Filter(**wanted), count, seed)]


def test_texts_are_hidden_unless_they_are_asked_for(folder):
    for arguments in ([], ["--json"], ["--id", "a1"], ["--kind", "pair"], ["--dropped"]):
        code, out, _ = run(folder, *arguments)
        assert code == 0
        assert CANARY not in out
        assert "hedge" not in out
    assert CANARY in run(folder, "--show-text")[1]


def test_a_text_is_shown_so_that_it_cannot_steer_the_terminal(folder):
    code, out, _ = run(folder, "--id", "a1", "--show-text")
    assert code == 0
    assert "[red]roses" in out
    lines = out.splitlines()
    assert f"    | [bold]{CANARY}[/bold]\\x1b[31m red\\r" in lines
    assert "    |   assistant:" in lines  # no turn of its own: the bar stands before it
    assert "    | \\u202egnorw\\u200b\\ttab\\x00" in lines
    assert all(sign.isprintable() or sign == "\n" for sign in out)


def test_a_long_text_is_shortened_and_says_by_how_much(folder):
    _, out, _ = run(folder, "--id", "a1", "--show-text", "--characters", 6)
    assert f"    | [bold] … {len(HOSTILE) - 6} characters left out" in out.splitlines()


def test_json_holds_whole_texts_in_ascii(folder):
    _, out, _ = run(folder, "--id", "a1", "--show-text", "--json")
    assert out.isascii()
    kept, gone = map(json.loads, out.splitlines())
    assert kept["messages"] == [{"role": "user", "content": HOSTILE}]
    assert gone["reason"] == "duplicate"  # of the same id: a copy that was dropped
    _, out, _ = run(folder, "--id", "p1", "--show-text", "--json")
    turns = json.loads(out)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant, preferred", "assistant, rejected"]
    assert turns[1]["content"] == CANARY


def test_columns_of_a_row(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run(folder, "--id", "b2", "--json")
    assert json.loads(out) == {
        "id": "b2",
        "split": "dev",
        "source": "gardens",
        "label": "unsafe",
        "categories": ["S2"],
        "undecided": ["S5"],
        "language": "en",
        "kind": "prompt",
        "characters": len(f"{CANARY} again"),
        "cluster": "a1",
        "cluster_rows": 3,
        "weight": 1.0,
        "licence": "MIT",
    }
    line = next(line for line in run(folder, "--id", "b2")[1].splitlines() if "b2" in line)
    assert line.split() == ["b2", "dev", "gardens", "unsafe", "S2,", "S5?", "en", "prompt", "20", "3", "1"]


def test_filters(folder):
    assert set(ids(folder, split="dev")) == {"b2"}
    assert set(ids(folder, label="unsafe")) == {"b2", "c3", "d4"}
    assert set(ids(folder, category="S2")) == {"b2", "c3"}
    assert set(ids(folder, category="S2", language="de")) == {"c3"}
    assert set(ids(folder, kind="response")) == {"d4"}
    assert set(ids(folder, source="[red]roses")) == {"a1"}
    assert set(ids(folder, kind="pair")) == {"p1", "p2"}
    assert set(ids(folder, split="pairs-dev")) == {"p2"}
    assert ids(folder, label="safe", language="de") == []
    assert set(ids(folder)) == {made["id"] for _, made in ROWS}
    assert set(ids(folder / "dev.parquet")) == {"b2"}
    assert set(ids(folder / "pairs-dev.parquet", kind="pair")) == {"p2"}


def test_a_value_that_no_row_has_is_an_error_that_names_the_others(folder):
    with pytest.raises(DataError, match=r"no row has the source 'garden'; did you mean 'gardens'\? \(available: "):
        ids(folder, source="garden")
    with pytest.raises(DataError, match=r"no row has the category 'S9' \(available: S10, S2\)"):
        ids(folder, category="S9")
    with pytest.raises(DataError, match=r"no 'tests' here; did you mean 'test'\?"):
        ids(folder, split="tests")
    assert run(folder, "--label", "safe", "--language", "de") == (0, "", "no row matches\n")


def test_dropped_rows(folder):
    _, out, _ = run(folder, "--dropped", "--json")
    assert {json.loads(line)["id"] for line in out.splitlines()} == {"f1", "f2", "a1"}
    _, out, _ = run(folder, "--reason", "language")
    line = next(line for line in out.splitlines() if "f2" in line)
    assert line.split() == ["f2", "roses", "language", "fr", "raw/x.csv", "row", "7"]
    assert run(folder / "drops.parquet", "--reason", "language")[1] == out
    with pytest.raises(InvalidInput, match="--label: unknown for dropped rows"):
        run(folder, "--dropped", "--label", "safe")
    with pytest.raises(DataError, match="no row has the reason 'overcap'; did you mean 'over cap'"):
        run(folder, "--reason", "overcap")


def test_an_id_that_is_nowhere(folder):
    with pytest.raises(InvalidInput, match="no row has the id 'zz'"):
        run(folder, "--id", "zz")


def test_what_is_no_build(tmp_path):
    with pytest.raises(DataError, match="neither a folder nor a parquet file"):
        files(tmp_path / "x.csv")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match="not a readable parquet file"):
        ids(tmp_path / "x.parquet")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers())
def test_a_larger_sample_begins_with_the_smaller_one(folder, one, other, seed):
    smaller, larger = sorted((one, other))
    first, second = ids(folder, smaller, seed), ids(folder, larger, seed)
    assert second[: len(first)] == first
    assert len(second) == min(larger, len(ROWS))


def test_seeds_give_other_samples(folder):
    assert len({tuple(ids(folder, 3, seed)) for seed in range(10)}) > 5
