"""guard.filter.map_fn and filter_fn: the columns of `guard filter`, for data sets that other libraries hold."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from guard.filter import filter_fn, map_fn
from guard.filter.columns import parse_columns
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.filter.scores import ADDED
from guard.moderator import open_moderator

ROWS = {"prompt": ["hello", "violates:M1", ""], "n": [1, 2, 3]}
FAKE = {"model": "fake", "policy": "minimal"}


def test_a_batch_gets_the_columns_of_the_command(tmp_path: Path):
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ROWS["prompt"]))
    filter_rows(Job([source], tmp_path / "k.jsonl", tmp_path / "q", keep="all"), open_moderator("fake", "minimal"))
    written = [json.loads(line) for line in (tmp_path / "k.jsonl").read_text().splitlines()]
    made = pickle.loads(pickle.dumps(map_fn(**FAKE)))(ROWS)
    assert list(made) == [*ADDED, "guard_error"]
    for name, kind in ADDED.items():
        cells = [json.loads(cell) if kind == "object" else cell for cell in made[name][:2]]
        assert cells == [row[name] for row in written]
        assert made[name][2] is None
    assert made["guard_error"][:2] == [None, None]
    assert made["guard_error"][2].startswith("the judged (last) message is empty")


def test_rows_are_chosen_by_outcome_and_threshold():
    assert filter_fn("SAFE", **FAKE)(ROWS) == [True, False, False]
    assert filter_fn("UNSAFE", **FAKE)(ROWS) == [False, True, False]
    assert filter_fn("UNSAFE", threshold=0.0001, **FAKE)(ROWS) == [True, True, False]


def test_datasets_map_and_filter_in_several_processes():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict(ROWS)
    mapped = data.map(map_fn(columns=parse_columns("", "all"), **FAKE), batched=True, num_proc=2)
    assert mapped["guard_outcome"][:] == ["SAFE", "UNSAFE", None]
    assert json.loads(mapped["guard_parts"][1])[0]["flagged"] == ["M1"]
    assert data.filter(filter_fn("SAFE", **FAKE), batched=True)["n"][:] == [1]
