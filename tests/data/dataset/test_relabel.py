"""Relabelling: what is said of a row under the other policy is true, and no row gets lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import policy
from guard.data.dataset.relabel import UNKNOWN, Relabelled, relabel, relabel_file
from guard.data.ingest.user_rows import read_labelled
from guard.errors import DataError, InvalidInput
from guard.policy import crosswalk as crosswalks
from guard.policy import route
from guard.policy.crosswalk import Crosswalk
from tests.fixtures import made_up_policies

TO_OPENAI = crosswalks.load("mlcommons_to_openai-moderation")
BEYOND = ("harassment", "violence", "violence/graphic")


@pytest.mark.parametrize(
    ("label", "categories", "undecided", "expected"),
    [
        ("safe", None, (), Relabelled("safe", (), BEYOND)),
        ("safe", [], (), Relabelled("safe", (), BEYOND)),
        ("safe", [], ["S12"], Relabelled("safe", (), ("harassment", "sexual", "violence", "violence/graphic"))),
        ("unsafe", ["S6", "S13"], (), Relabelled("safe", (), BEYOND)),
        (
            "unsafe",
            ["S11"],
            (),
            Relabelled(
                "unsafe", ("self-harm",), (*BEYOND[:1], "self-harm/instructions", "self-harm/intent", *BEYOND[1:])
            ),
        ),
        (
            "unsafe",
            ["S9", "S6", "S9"],
            (),
            Relabelled("unsafe", ("illicit/violent",), ("harassment", "illicit", *BEYOND[1:])),
        ),
        ("unsafe", ["S1"], (), Relabelled("unsafe", None)),  # violence, or help with it
        ("unsafe", ["S1", "S7"], (), Relabelled("unsafe", None)),
        ("unsafe", ["S7"], (), Relabelled(None, None, (), f"S7: {TO_OPENAI.unmapped['S7']}")),
        ("unsafe", ["S8", "S6", "S7"], (), Relabelled(None, None, (), f"S7: {TO_OPENAI.unmapped['S7']}")),
        ("unsafe", None, (), Relabelled(None, None, (), UNKNOWN)),
        ("unsafe", [], (), Relabelled(None, None, (), UNKNOWN)),
    ],
)
def test_rows_of_the_hub_under_the_moderation_categories(
    label: Any, categories: list[str] | None, undecided: Any, expected: Relabelled
) -> None:
    assert relabel(TO_OPENAI, label, categories, undecided) == expected


def test_unknown_categories_stay_unknown_where_the_other_policy_covers_all() -> None:
    lg2 = crosswalks.load("llama-guard-2")
    assert relabel(lg2, "unsafe", None) == Relabelled("unsafe", None)
    assert relabel(lg2, "safe", None) == Relabelled("safe", (), ("S5", "S13"))


def test_a_label_that_is_not_listed_is_refused_without_being_told() -> None:
    with pytest.raises(InvalidInput, match=r"`categories` names 2 labels that crosswalk mlc.*lists: S2, S4") as caught:
        relabel(TO_OPENAI, "unsafe", ["S1", "secret one", "secret two"])
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidInput, match="`undecided` names 1 labels"):
        relabel(TO_OPENAI, "safe", [], ["secret"])


@settings(deadline=None)
@given(made_up_policies.worlds, st.data())
def test_what_is_said_of_a_row_is_true(world: made_up_policies.World, data: st.DataObject) -> None:
    there = made_up_policies.true_crosswalk(world, "x", "hub")
    further = made_up_policies.true_crosswalk(world, "hub", "y")
    for found, target in ((there, "hub"), (route.compose(there, further), "y")):
        for content in world:
            actual, labels = content[target], sorted(content["x"])
            told = data.draw(st.sets(st.sampled_from(labels))) if labels else set()
            label = "unsafe" if told else data.draw(st.sampled_from(["safe", "unsafe"])) if labels else "safe"
            said = relabel(found, label, sorted(told), sorted(set(labels) - told) if told or label == "safe" else ())
            if said.label is None:
                assert label == "unsafe"
                assert said.reason
                continue
            assert label == "unsafe" or said.label == "safe"
            if said.label == "unsafe":
                assert actual
            if said.categories is not None:
                assert set(said.categories) <= actual <= {*said.categories, *said.undecided}
                assert not set(said.categories) & set(said.undecided)
                assert {*said.categories, *said.undecided} <= set(made_up_policies.CODES[target])


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_is_relabelled_and_every_row_accounted_for(tmp_path: Path) -> None:
    rows = [
        {"prompt": "hello", "label": "safe", "n": 1.50},
        {"id": "a", "prompt": "bye", "response": "…", "label": "unsafe", "categories": ["S10"], "source": "x"},
        {"messages": [{"role": "user", "content": "now"}], "label": "unsafe", "categories": ["S13"]},
        {"prompt": "where", "label": "unsafe", "categories": ["S7"]},
        {"prompt": "why", "label": "unsafe"},
        {"prompt": "who", "label": "unsafe", "categories": ["S1"], "undecided": ["S2"]},
    ]
    out = tmp_path / "out.jsonl"
    tally = relabel_file(written(tmp_path / "in.jsonl", rows), out, TO_OPENAI)
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [
        {"prompt": "hello", "n": 1.5, "label": "safe", "categories": [], "undecided": list(BEYOND)},
        {
            "id": "a",
            "prompt": "bye",
            "response": "…",
            "source": "x",
            "label": "unsafe",
            "categories": ["hate"],
            "undecided": ["harassment", "harassment/threatening", "hate/threatening", "violence", "violence/graphic"],
        },
        {**rows[2], "label": "safe", "categories": [], "undecided": list(BEYOND)},
        {"prompt": "who", "label": "unsafe"},
    ]
    assert tally.as_dict() == {
        "read": 6,
        "written": 4,
        "safe": 1,
        "unsafe": 2,
        "became_safe": 1,
        "undecided": 3,
        "dropped": {f"S7: {TO_OPENAI.unmapped['S7']}": 1, UNKNOWN: 1},
    }
    assert len(read_labelled(out, policy.load("openai"))) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


labels = st.sampled_from(policy.load("mlcommons").codes)
texts = st.text(st.characters(), min_size=1, max_size=5).filter(lambda text: text.strip())
prompts = texts | st.just("\ud800x") | st.just("a\u2028b")
safe_rows = st.fixed_dictionaries({"prompt": prompts, "label": st.just("safe"), "n": st.integers()})
unsafe_rows = st.fixed_dictionaries(
    {"prompt": prompts, "label": st.just("unsafe")},
    optional={"categories": st.lists(labels, max_size=3), "undecided": st.lists(labels, max_size=2)},
)


@settings(deadline=None)
@given(rows=st.lists(safe_rows | unsafe_rows, max_size=8), escaped=st.booleans(), mark=st.booleans())
def test_no_row_gets_lost_and_none_changes_but_in_its_labels(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], escaped: bool, mark: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        json.dumps(row, ensure_ascii=escaped or any("\ud800" <= c <= "\udfff" for c in row["prompt"])) + "\n"
        for row in rows
    ]
    (folder / "in.jsonl").write_text("\ufeff" * mark + "\n".join(lines), encoding="utf-8", newline="")
    tally = relabel_file(folder / "in.jsonl", folder / "out.jsonl", TO_OPENAI)
    text = (folder / "out.jsonl").read_bytes().decode()
    after = [json.loads(line) for line in text.split("\n") if line]
    assert tally.read == len(rows) == tally.safe + tally.unsafe + tally.became_safe + tally.dropped.total()
    kept = [row for row in rows if relabel(TO_OPENAI, row["label"], row.get("categories")).label is not None]
    bare = [{key: row[key] for key in row if key not in ("label", "categories", "undecided")} for row in kept]
    assert [{key: row[key] for key in row if key not in ("label", "categories", "undecided")} for row in after] == bare
    assert len(after) == tally.read - tally.dropped.total()
    for before, row in zip(kept, after, strict=True):
        assert {*row.get("categories", ()), *row.get("undecided", ())} <= set(TO_OPENAI.codes)
        assert before["label"] == "unsafe" or row["label"] == "safe"


def test_broken_rows_are_told_with_their_lines_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    fine = '{"prompt": "a", "label": "safe"}'
    source.write_bytes(
        "\n".join(
            [
                fine,
                "{secret",
                '["secret"]',
                '{"prompt": "secret", "label": "unlabelled"}',
                '{"prompt": "secret", "label": "safe", "categories": ["S1"]}',
                "",
                '{"prompt": "secret", "label": "unsafe", "categories": "S1"}',
                '{"prompt": "secret", "label": "unsafe", "categories": ["secret"]}',
                '{"prompt": 7, "label": "unsafe"}',
                '{"prompt": "secret", "label": "safe", "undecided": [1]}',
                fine,
            ]
        ).encode()
        + b'\n{"prompt": "\xff", "label": "safe"}'
    )
    out = tmp_path / "out.jsonl"
    out.write_text("earlier", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        relabel_file(source, out, TO_OPENAI)
    told = str(caught.value).splitlines()
    assert [int(line.removeprefix(f"{source}:").partition(":")[0]) for line in told] == [2, 3, 4, 5, 7, 8, 9, 10, 12]
    assert "secret" not in str(caught.value)
    assert out.read_text(encoding="utf-8") == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_only_the_first_twenty_broken_rows_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        relabel_file(written(tmp_path / "in.jsonl", [[]] * 25), tmp_path / "out.jsonl", TO_OPENAI)
    told = str(caught.value).splitlines()
    assert (len(told), told[-1]) == (21, "… and 5 more broken rows")


def test_files_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [])
    for one, two, told in (
        (
            tmp_path / "no.jsonl",
            tmp_path / "out.jsonl",
            "no.jsonl: cannot be read: No such file or directory",
        ),
        (tmp_path, tmp_path / "out.jsonl", f"{tmp_path}: cannot be read: Is a directory"),
        (source, tmp_path / "no" / "out.jsonl", "no/out.jsonl: No such file or directory"),
    ):
        with pytest.raises(DataError) as caught:
            relabel_file(one, two, TO_OPENAI)
        assert str(caught.value).endswith(told)
    assert relabel_file(source, source, TO_OPENAI).read == 0, "a file may take its own place"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    source = written(tmp_path / "in.jsonl", [{"prompt": "a" * 200, "label": "safe"}] * 400)
    relabel_file(source, out, TO_OPENAI)
    whole, seen, done = out.read_bytes(), set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(out.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        relabel_file(source, out, TO_OPENAI)
    done.set()
    reader.join(timeout=10)
    assert seen == {whole}


def test_the_hub_is_unchanged_by_the_codes_of_a_subset() -> None:
    hazards = policy.load("mlcommons")
    found: Crosswalk = route.between(hazards, hazards.without(["S6"])).crosswalk
    assert relabel(found, "unsafe", ["S6"]) == Relabelled("safe", (), ())
    assert relabel(found, "unsafe", ["S6", "S1"]) == Relabelled("unsafe", ("S1",), ())
    assert relabel(found, "unsafe", None).label is None
