"""`guard data diff`: exact counts of what differs between two builds."""

import json
from collections import Counter

import pyarrow.parquet
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guard.cli.data_diff import diff as command
from guard.data.build.build import build
from guard.data.dataset.diff import NO_LIST, NOT_READ, NOT_USED, Move, diff
from guard.data.dataset.open import open_dataset
from guard.errors import DataError
from tests.fixtures.made_up_build import drop, pair, row, write


def compare(a, b, show_ids=0):
    return diff(open_dataset(a), open_dataset(b), show_ids)


def run(*arguments):
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_builds_of_one_configuration_are_equal(world, tmp_path):
    for name in ("a", "b"):
        build(world.config, world.root, tmp_path / name)
    found = compare(tmp_path / "a", tmp_path / "b", show_ids=5)
    assert found.equal
    assert found.both == found.rows[0] == found.rows[1] > 0
    assert not found.ids
    code, out, err = run(tmp_path / "a", tmp_path / "b")
    assert (code, err) == (0, "")
    assert out.endswith("equal\n")


def test_every_change_of_a_configuration_is_counted(world, tmp_path):
    build(world.config, world.root, tmp_path / "a")
    world.edit(world.config, "cap: 40", "cap: 30")
    world.edit(world.config, "- {source: notes, weight: 0.25}", "")
    world.edit(world.config, "development: [fences]", "development: []")
    world.edit(world.source("gardens"), "unlabelled: [unsure]", "unlabelled: []")
    world.edit(world.source("gardens"), "safe: [ok]", "safe: [ok, unsure]")
    build(world.config, world.root, tmp_path / "b", allow_count_mismatch=True)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert not found.equal
    assert found.settings["sources.talks.cap"] == (40, 30)
    assert found.settings["development"] == (["fences"], [])
    assert found.sources["notes"] == found.sources["fences"] == ("removed",)
    # All the notes and fences, and the ten talks that the smaller cap leaves out.
    assert found.removed == {("talks", "over cap"): 10, ("notes", NOT_USED): 30, ("fences", NOT_USED): 2}
    assert found.added == {("gardens", "unlabelled"): 1}
    labels = [Counter(one["label"] for one in stored(tmp_path / name)) for name in ("a", "b")]
    assert found.totals["label"] == {label: tuple(count[label] for count in labels) for label in ("safe", "unsafe")}


def stored(folder):
    return [
        one for path in open_dataset(folder).labelled.values() for one in pyarrow.parquet.read_table(path).to_pylist()
    ]


def test_moved_rows_are_a_warning_in_both_directions(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("2", "test"), row("3", "dev"), row("4", "test"), row("5", cluster="c")])
    b = write(
        tmp_path / "b", [row("1", "test"), row("2"), row("3", "test"), row("4", "test"), row("6", "dev", cluster="c")]
    )
    found = compare(a, b)
    assert set(found.moves) == {
        Move("train", "test", rows=1, clusters=1),
        Move("test", "train", rows=1, clusters=1),
        Move("dev", "test", rows=1, clusters=1),
        Move("train", "dev", rows=0, clusters=1),  # other rows of a cluster that the first build trains on
    }
    assert {(move.before, move.after) for move in found.moves if move.leaks} == {
        ("train", "test"),
        ("test", "train"),
        ("train", "dev"),
    }
    code, _, err = run(a, b)
    assert code == 1
    assert "1 clusters (1 rows) moved from test in A to train in B: do not test a model of B on A" in err
    assert "1 clusters (1 rows) moved from train in A to test in B: do not test a model of A on B" in err
    assert "dev in A" not in err


def test_changed_fields_are_told_with_old_and_new(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("2"), row("3", label="unsafe", categories=["S1"]), row("4", weight=0.5)])
    b = write(
        tmp_path / "b",
        [
            row("1", label="unsafe", categories=["S2", "S10"]),
            row("2", licence="CC0-1.0"),
            row("3", label="unsafe", categories=["S1"], undecided=["S9"]),
            row("4", weight=0.75),
        ],
    )
    found = compare(a, b, show_ids=9)
    assert found.changed == {
        "label": {("safe", "unsafe"): 1},
        "categories": {("none", "S2, S10"): 1},
        "licence": {("MIT", "CC0-1.0"): 1},
        "undecided": {("none", "S9"): 1},
    }
    assert (found.weights.rows, found.weights.factor) == (1, None)
    assert found.ids == {
        "changed label": ("1",),
        "changed categories": ("1",),
        "changed licence": ("2",),
        "changed undecided": ("3",),
    }
    assert found.both == 4
    assert not found.removed
    assert not found.added


def test_one_factor_between_all_weights_is_told(tmp_path):
    a = write(tmp_path / "a", [row("1", weight=1.0), row("2", weight=0.5)])
    b = write(tmp_path / "b", [row("1", weight=1.25), row("2", weight=0.625)])
    assert compare(a, b).weights.factor == pytest.approx(1.25)
    assert "all of them by the factor 1.25" in run(a, b)[1]


def test_the_reason_of_a_row_that_was_read_twice_is_not_that_it_repeats(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("2"), row("3")])
    drops = [
        drop("1", reason="repeated in source"),
        drop("1", reason="language"),
        drop("1", reason="repeated in source"),
    ]
    b = write(tmp_path / "b", [row("3")], drops=drops)
    assert compare(a, b).removed == {("gardens", "language"): 1, ("gardens", NOT_READ): 1}
    (b / "drops.parquet").unlink()
    manifest = json.loads((b / "manifest.json").read_text())
    del manifest["files"]["drops.parquet"]
    (b / "manifest.json").write_text(json.dumps(manifest))
    assert compare(a, b).removed == {("gardens", NO_LIST): 2}


def test_pairs_are_compared_too_and_kinds_kept_apart(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("1", kind="text")], pairs=[pair("1"), pair("2")])
    b = write(tmp_path / "b", [row("1")], pairs=[pair("1", language="de"), pair("3", "dev")])
    found = compare(a, b, show_ids=3)
    assert found.both == 2
    assert found.changed == {"language": {("en", "de"): 1}}
    assert found.removed == {("gardens", NOT_READ): 2}
    assert found.ids["only in A"] == ("1", "2")
    assert found.ids["only in B"] == ("3",)
    assert found.totals["kind"] == {"text": (1, 0)}


def test_equal_rows_in_other_bytes_are_different(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("2")])
    b = write(tmp_path / "b", [row("2"), row("1")])
    found = compare(a, b)
    assert not found.equal
    assert found.files == ("train.parquet",)
    assert "same rows, different bytes: train.parquet" in run(a, b)[1]


def test_settings_policy_and_sources(tmp_path):
    base = {"sources": [{"source": "x", "cap": 3}, {"source": "y", "cap": None}], "shares": {"dev": 0.1}}
    swapped = {"sources": [{"source": "y", "cap": 5}, {"source": "x", "cap": 3}], "shares": {"dev": 0.2}}
    source = {"name": "x", "licence": "MIT", "role": "train", "read": 0, "kept": 0, "dropped": {}}
    a = write(tmp_path / "a", config=base, sources=[{**source, "commit": "aa", "files": {"raw/x": "11", "raw/y": "2"}}])
    b = write(
        tmp_path / "b",
        config=swapped,
        sources=[{**source, "licence": "CC0-1.0", "files": {"raw/x": "12"}}, {**source, "name": "z"}],
        policy={"id": "mlcommons", "version": "1.1", "digest": "2" * 64},
    )
    found = compare(a, b)
    assert found.settings == {
        "sources": (["x", "y"], ["y", "x"]),
        "sources.y.cap": (None, 5),
        "shares.dev": (0.1, 0.2),
    }
    assert found.policy == {"version": ("1.0", "1.1"), "digest": ("1" * 64, "2" * 64)}
    assert found.sources == {
        "x": ("commit aa → none", "licence MIT → CC0-1.0", "2 raw files differ"),
        "z": ("added",),
    }
    code, out, _ = run(a, b)
    assert code == 1
    assert "sources.y.cap" in out
    assert "licence MIT → CC0-1.0" in out


def test_json_tells_it_all(tmp_path):
    a = write(tmp_path / "a", [row("1"), row("2", "test")])
    b = write(tmp_path / "b", [row("2")], drops=[drop("1", reason="language", detail="fr")])
    code, out, _ = run(a, b, "--json", "--show-ids", 1)
    told = json.loads(out)
    assert code == 1
    assert told["equal"] is False
    assert told["rows"] == [2, 1]
    assert told["removed"] == [{"source": "gardens", "reason": "language", "rows": 1}]
    assert told["moves"] == [{"before": "test", "after": "train", "rows": 1, "clusters": 1, "leaks": True}]
    assert told["ids"]["only in A"] == ["1"]
    code, out, _ = run(a, a, "--json")
    assert code == 0
    assert json.loads(out)["equal"] is True


def test_an_id_that_is_there_twice_is_a_broken_build(tmp_path):
    twice = write(tmp_path / "a", [row("1"), row("1", "test")])
    with pytest.raises(DataError, match="1 rows share their id and kind"):
        compare(twice, twice)


def test_a_folder_that_is_no_build(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read: No such file"):
        compare(tmp_path, tmp_path)


Rows = st.dictionaries(
    st.integers(0, 12).map(str),
    st.tuples(
        st.sampled_from(["train", "dev", "test"]), st.sampled_from(["safe", "unsafe"]), st.sampled_from(["rose", "fig"])
    ),
    max_size=10,
)


@settings(max_examples=15, deadline=None)
@given(Rows, Rows)
def test_counts_are_those_of_the_rows(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("builds")
    a, b = (
        write(
            folder / name, [row(id, split, label=label, source=source) for id, (split, label, source) in rows.items()]
        )
        for name, rows in (("a", first), ("b", second))
    )
    found = compare(a, b)
    both = first.keys() & second.keys()
    assert (*found.rows, found.both) == (len(first), len(second), len(both))
    assert found.removed.total() == len(first) - len(both)
    assert found.added.total() == len(second) - len(both)
    for place, field in enumerate(("split", "label", "source")):
        changes = Counter((first[id][place], second[id][place]) for id in both if first[id][place] != second[id][place])
        assert found.changed.get(field, Counter()) == changes
    assert {(move.before, move.after): move.rows for move in found.moves} == found.changed.get("split", {})
    back = compare(b, a)
    assert back.removed.total() == found.added.total()
    assert back.equal == found.equal
    assert compare(a, a).equal
