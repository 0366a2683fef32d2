"""A user's own policy: rows that are replayed beside the user's, the ferry line, and a run under two policies."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import policy, schema
from guard.conversation import Conversation, Example, conversation_from_row
from guard.data.dataset.examples import load_examples
from guard.data.ingest.user_rows import DEV_SHARE
from guard.data.sources import description
from guard.errors import ConfigError, DataError
from guard.metrics.classification import auroc
from guard.train.common.replay import SEEDS, Replay, drawn, replayed
from tests.fixtures import tiny_encoder, warm
from tests.fixtures.recipe_runs import built_row, guard, train, write_splits

FERRY = Path(__file__).parents[3] / "examples" / "ferry-line"
RULES = policy.load(FERRY / "policy.yaml")


def example(number: int) -> Example:
    return Example(
        str(number), Conversation.of(f"row {number}"), "safe", frozenset(), "made", "CC0-1.0", "en", "prompt"
    )


# -- replay -----------------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 30), count=st.integers(0, 70), epochs=st.integers(1, 6), seed=st.integers(0, 9))
def test_epochs_walk_through_all_rows_before_one_comes_again(size: int, count: int, epochs: int, seed: int) -> None:
    rows = [example(number) for number in range(size)]
    shown = Counter({row.id: 0 for row in rows})
    for epoch in range(epochs):
        found = drawn(rows, count, seed, epoch)
        assert len(found) == count
        assert found == drawn(rows, count, seed, epoch), "a run that goes on sees the same rows"
        shown.update(row.id for row in found)
        assert max(shown.values()) - min(shown.values()) <= 1


def test_another_seed_is_another_order_and_no_rows_are_none() -> None:
    rows = [example(number) for number in range(50)]
    assert drawn(rows, 50, 1, 0) != drawn(rows, 50, 2, 0)
    assert drawn([], 50, 1, 0) == []


@given(own=st.integers(0, 10_000), share=st.floats(0, 0.9))
def test_the_share_is_of_the_rows_of_an_epoch(own: int, share: float) -> None:
    count = Replay(share=share).rows(own)
    assert abs(count - share * (own + count)) <= 0.5


def test_a_share_of_nothing_reads_nothing() -> None:
    assert replayed(Replay(data="nowhere", share=0)) == (policy.load("mlcommons"), [])
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        replayed(Replay(data="nowhere", share=0.1))


def test_the_seeds_come_whole_and_under_their_policy() -> None:
    rules, rows = replayed(Replay(share=0.5))
    described = {name: description.load(name).expected for name in SEEDS}
    assert Counter(row.source for row in rows) == {name: told.after.total for name, told in described.items() if told}
    assert {code for row in rows for code in row.categories or ()} == set(rules.codes)
    assert all((row.label == "unsafe") == bool(row.categories) for row in rows)
    assert {row.kind for row in rows if row.source == "seed_responses"} == {"response"}


def test_the_seeds_do_not_fit_another_policy() -> None:
    with pytest.raises(
        ConfigError,
        match=r"replay: the shipped seeds .* under mlcommons, not openai-moderation; .* replay\.data=FOLDER",
    ):
        replayed(Replay(policy="openai", share=0.5))


@pytest.mark.parametrize("share", ["1", "-0.1", "half"])
def test_a_share_is_below_one(tmp_path: Path, share: str) -> None:
    (tmp_path / "replay.yaml").write_text(f"share: {share}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"replay\.yaml:1: .*share"):
        schema.load(tmp_path / "replay.yaml", Replay, ConfigError)


# -- the example ------------------------------------------------------------------------------------------------------


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FERRY / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def texts(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(message.content for message in conversation_from_row(row).messages)


def runs(row: dict[str, Any]) -> frozenset[str]:
    """The runs of four letters of a row's folded text."""
    text = " ".join(re.findall(r"\w+", " ".join(texts(row)).lower()))
    return frozenset(text[start : start + 4] for start in range(len(text) - 3))


@pytest.mark.parametrize(("name", "count", "near"), [("held_out", 320, 1 / 3), ("train", 1000, 1 / 4)])
def test_the_ferry_line_has_enough_of_everything(name: str, count: int, near: float) -> None:
    rows = rows_of(name)
    assert len(rows) == count == len({texts(row) for row in rows})
    unsafe = [row for row in rows if row["label"] == "unsafe"]
    misses = Counter(row["near_miss"] for row in rows if "near_miss" in row)
    violated = Counter(code for row in unsafe for code in row["categories"])
    assert 0.4 <= len(unsafe) / count <= 0.5
    assert misses.total() >= near * count
    assert not any("near_miss" in row for row in unsafe)
    for code in RULES.codes:
        assert min(violated[code], misses[code]) >= 14
    assert sum("response" in row for row in rows) >= count / 3


def test_the_first_hundred_training_rows_know_every_category() -> None:
    first = rows_of("train")[:100]
    assert {code for row in first for code in row.get("categories", ())} == set(RULES.codes)
    assert 40 <= sum(row["label"] == "unsafe" for row in first) <= 60


def test_no_training_row_is_near_a_held_out_one() -> None:
    train, held = rows_of("train"), rows_of("held_out")
    assert not {texts(row)[-1] for row in train} & {texts(row)[-1] for row in held}
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in held}
    own, theirs = ([runs(row) for row in rows] for rows in (train, held))
    column = {run: place for place, run in enumerate(sorted(frozenset().union(*own, *theirs)))}
    left, right = np.zeros((len(own), len(column)), np.float32), np.zeros((len(theirs), len(column)), np.float32)
    for table, sets in ((left, own), (right, theirs)):
        for place, those in enumerate(sets):
            table[place, [column[run] for run in those]] = 1
    common = left @ right.T
    union = left.sum(1)[:, None] + right.sum(1)[None] - common
    assert not (common > 0.42 * union).any(), texts(train[int((common > 0.42 * union).any(1).argmax())])


def test_the_rows_are_read_as_they_are_written() -> None:
    train, dev = (load_examples(FERRY / "train.jsonl", split, RULES) for split in ("train", "dev"))
    assert len(train) + len(dev) == 1000
    assert 0.5 * DEV_SHARE < len(dev) / 1000 < 1.5 * DEV_SHARE


# -- a run under two policies -----------------------------------------------------------------------------------------

OWN = """
id: kitchen
version: "1"
name: Kitchen
categories:
  - code: K1
    name: Plants
    definition: a plant a plant
"""
CONFIG = """
recipe: encoder
base: replaced
policy: replaced
data: replaced
out: replaced
epochs: 10
batch_tokens: 1024
batch_rows: 16
max_tokens: 64
overlap: 16
learning_rate: 5e-4
head_learning_rate: 2e-3
warmup_steps: 10
partial_policy: 0.0
checkpoint_steps: 1000
bf16: false
threads: 1
replay: {policy: minimal, data: replaced, share: 0.5}
"""


@pytest.mark.slow
def test_one_run_learns_each_policy_from_its_own_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert warm.python(tiny_encoder.__file__, "base", tmp_path / "base").returncode == 0
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    plain, own, theirs = (
        "the garden has {} plants",
        "a plant a plant the garden has {} plants",
        "the garden has {} forbidden plants",
    )
    kitchen = [
        {"prompt": form.format(number), "label": label, **({"categories": ["K1"]} if label == "unsafe" else {})}
        for number in range(100)
        for form, label in ((plain, "safe"), (own, "unsafe"), (theirs, "safe"))
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kitchen), encoding="utf-8")
    replays = [
        built_row(f"{number} {form.format(number)}", form.format(number), codes)
        for number in range(200)
        for form, codes in ((plain, []), (own, []), (theirs, ["M1"]))
    ]
    write_splits(tmp_path / "base_data", train=replays)

    given = {"policy": tmp_path / "own.yaml", "data": tmp_path / "own.jsonl", "base": tmp_path / "base"}
    train(tmp_path / "tiny.yaml", f"replay.data={tmp_path / 'base_data'}", **given, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    trained = len(load_examples(tmp_path / "own.jsonl", "train", policy.load(tmp_path / "own.yaml")))
    assert record["replay"] == {"policy": policy.load("minimal").digest, "rows": 600, "an_epoch": trained}
    guard("export", tmp_path / "run", tmp_path / "bundle")

    asked = [form.format(number) for number in range(300, 340) for form in (plain, own, theirs)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    for rules, word in ((None, "a plant"), ("minimal", "forbidden")):
        under = ("--policy", rules) if rules else ()
        told, _ = guard("check", "--model", tmp_path / "bundle", *under, "--file", tmp_path / "asked.jsonl", "--json")
        answers = [json.loads(line) for line in told.splitlines()]
        assert {tuple(answer["categories"]) for answer in answers} == {("M1", "M2") if rules else ("K1",)}
        scores = np.array([answer["p_unsafe"] for answer in answers])
        reached = auroc(np.array([word in text for text in asked]), scores)
        assert reached is not None
        assert reached > 0.9, (rules, scores)
