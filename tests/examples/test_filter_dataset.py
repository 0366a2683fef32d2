"""examples/filter_dataset.py"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.conftest import EXAMPLES, run

pytestmark = pytest.mark.slow


def test_safe_rows_are_kept_as_they_were(tmp_path: Path) -> None:
    rows = [{"id": 1, "prompt": "hello"}, {"id": 2, "prompt": "violates:S1"}, {"id": 3, "prompt": ""}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = tmp_path / "kept.jsonl"
    told = run("filter_dataset.py", str(tmp_path / "rows.jsonl"), str(kept), HF_HOME=str(tmp_path))
    assert told[0] == "ERROR: 1, SAFE: 1, UNSAFE: 1"
    assert [json.loads(line) for line in kept.read_text().splitlines()] == rows[:1]


def test_the_shipped_guard_on_the_chats(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    run("filter_dataset.py", str(EXAMPLES / "chats.jsonl"), str(kept), HF_HOME=str(tmp_path), GUARD_MODEL=None)
    ids = {json.loads(line)["id"] for line in kept.read_text().splitlines()}
    assert "tomatoes" in ids
    assert not ids & {"break-in", "phishing"}
