"""Writes the shipped guard's verdicts into default_guard.jsonl, after a new guard: `python tests/golden/update.py`."""

from __future__ import annotations

import json
from pathlib import Path

from guard import open_moderator
from guard.conversation import conversation_from_row

FILE = Path(__file__).parent / "default_guard.jsonl"

if __name__ == "__main__":
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    for row, verdict in zip(rows, open_moderator().moderate([conversation_from_row(r) for r in rows]), strict=True):
        row |= {
            "outcome": verdict.outcome.value,
            "p_unsafe": round(verdict.p_unsafe, 4),
            "flagged": list(verdict.flagged),
        }
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
