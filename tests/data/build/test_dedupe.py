"""Duplicates, near-duplicates, conflicts and caps: rows are conserved, whatever comes in."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.data.build import row_index, select, source_part
from guard.data.build.config import BuildConfig, SourceUse
from guard.data.build.mix import Mixing
from guard.data.ingest.fingerprint import text_key
from guard.data.row import Row
from guard.data.sources.description import File, Source
from guard.data.sources.row_rules import LabelRule, Text
from guard.jobs.ledger import open_ledger

SOURCES = ("one", "two")
LONG = " ".join(f"bean{number}" for number in range(120))

rows = st.lists(
    st.builds(
        Row,
        source=st.sampled_from(SOURCES),
        kind=st.just("prompt"),
        prompt=st.sampled_from(["Prune it", "prune it!", "water it", "?", "!", LONG, LONG + " end", LONG.upper()]),
        response=st.none(),
        label=st.sampled_from(["safe", "unsafe"]),
        categories=st.none(),
        language=st.sampled_from(["en", "fr"]),
    ),
    max_size=20,
)


def source(name):
    label = LabelRule(otherwise="safe")
    return Source(name, name, "MIT", "train", "either", label, files=(File("x"),), format="jsonl", prompt=Text(("p",)))


def selected(given_rows, **settings):
    """Each row with the reason why it is dropped (empty if it is kept) and the row that it duplicates."""
    ordered = [row for name in SOURCES for row in given_rows if row.source == name]
    config = {"policy": "mlcommons", "seed": 1, "sources": tuple(SourceUse(name) for name in SOURCES), **settings}
    with tempfile.TemporaryDirectory() as folder:
        with open_ledger(Path(folder) / "parts", {}) as ledger:
            for number, name in enumerate(SOURCES):
                source_part.write_part((row for row in ordered if row.source == name), ledger, number)
            index = row_index.read_index(ledger, len(SOURCES))
            signatures = [
                row_index.Signatures(ledger, len(SOURCES), name, Path(folder) / name)
                for name in (source_part.PROMPTS, source_part.JUDGED)
            ]
        sources = [source(name) for name in SOURCES]
        selection = select.select_rows(index, BuildConfig(**config), sources, *signatures, rules={})
    reasons = [select.REASONS[code] for code in selection.reason.tolist()]
    originals = (ordered[place] for place in selection.duplicate_of.tolist())
    return list(zip(ordered, reasons, originals, strict=True)), selection


@given(rows)
@settings(max_examples=25, deadline=None)
def test_one_row_and_one_label_a_text_remain(given_rows):
    done, _ = selected(given_rows)
    keys = Counter(text_key(row.prompt) for row, reason, _ in done if not reason)
    assert set(keys.values()) <= {1}
    for key in {text_key(row.prompt) for row in given_rows}:
        own = [(row, reason) for row, reason, _ in done if text_key(row.prompt) == key]
        conflict = len({row.label for row, _ in own}) == 2
        assert {reason == "label conflict" for _, reason in own} == {conflict}
        assert (key in keys) != conflict
    for row, reason, stays in done:
        if reason == "duplicate":
            assert text_key(stays.prompt) == text_key(row.prompt)


@given(rows)
@settings(max_examples=25, deadline=None)
def test_near_duplicates_go_within_one_label_only(given_rows):
    done, _ = selected(given_rows, near_duplicates=0.8)
    assert len(done) == len(given_rows)
    for row, reason, stays in done:
        if reason == "near-duplicate":
            assert stays.label == row.label
            assert {len(row.prompt), len(stays.prompt)} <= {len(LONG), len(LONG) + 4}
    long = [row for row, reason, _ in done if not reason and len(row.prompt) >= len(LONG)]
    assert len({row.label for row in long}) == len(long)


@given(rows, st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_cap_keeps_that_many_and_a_higher_one_keeps_them_too(given_rows, cap):
    def kept(cap):
        done, _ = selected(given_rows, sources=(SourceUse("one", cap=cap), SourceUse("two")))
        return [row for row, reason, _ in done if not reason and row.source == "one"]

    without, fewer, more = map(kept, (None, cap, cap + 1))
    assert len(fewer) == min(cap, len(without))
    assert all(row in more for row in fewer)


def test_the_first_of_equal_rows_wins():
    first, second = (Row(name, "prompt", "Prune it", None, "safe", (), "en") for name in SOURCES)
    done, _ = selected([second, first])
    assert [(row.source, reason, stays.source) for row, reason, stays in done] == [
        ("one", "", "one"),
        ("two", "duplicate", "one"),
    ]


def test_a_response_and_a_prompt_are_not_duplicates():
    prompt = Row("one", "prompt", "Prune it", None, "safe", (), "en")
    response = Row("one", "response", "Prune it", "No.", "unsafe", None, "en")
    done, found = selected([prompt, response])
    assert {reason for _, reason, _ in done} == {""}
    assert len(set(found.split.tolist())) == len(set(found.cluster.tolist())) == 1


def test_equal_answers_to_different_questions_all_stay():
    answer = "I cannot help with that. " + " ".join(f"Reason {number} is the hedge." for number in range(30))
    asked = [
        Row("one", "response", f"May I fell the {tree}?", answer, "safe", (), "en")
        for tree in ("willow", "old fig in the yard", "hazel that my aunt planted")
    ]
    assert {reason for _, reason, _ in selected(asked, near_duplicates=0.8)[0]} == {""}
    again = Row("two", "response", "May I fell the willow?", answer + " Sorry.", "safe", (), "en")
    assert [reason for _, reason, _ in selected([*asked, again], near_duplicates=0.8)[0]] == [
        "",
        "",
        "",
        "near-duplicate",
    ]


def test_category_caps_leave_rows_that_another_category_needs():
    def unsafe(number, *codes):
        return Row("one", "prompt", f"row {number} of the garden plan", None, "unsafe", codes, "en")

    given_rows = [*(unsafe(number, "S1") for number in range(6)), unsafe(7, "S1", "S2"), unsafe(8)]
    given_rows.append(Row("two", "prompt", "a safe row", None, "safe", (), "en"))
    done, _ = selected(given_rows, mixing=Mixing(category_caps={"S1": 2}))
    over = [row for row, reason, _ in done if reason == "over category cap"]
    assert len(over) in (4, 5)
    assert all(row.categories == ("S1",) for row in over)
