"""Writes what the shipped guard and the tests' tiny one say, after either is new: `python tests/golden/update.py`.

Both are asked about the conversations of default_guard.jsonl.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guard import open_moderator
from guard.conversation import conversation_from_row
from guard.moderator import Moderator

GOLDEN = Path(__file__).parent
TINY = GOLDEN.parent / "fixtures" / "tiny-guard"


def answers(moderator: Moderator, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the guard says of each row."""
    return [
        {"outcome": verdict.outcome.value, "p_unsafe": round(verdict.p_unsafe, 4), "flagged": list(verdict.flagged)}
        for verdict in moderator.moderate([conversation_from_row(row) for row in rows])
    ]


def write(name: str, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (GOLDEN / name).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    lines = (GOLDEN / "default_guard.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    write("default_guard.jsonl", [row | said for row, said in zip(rows, answers(open_moderator(), rows), strict=True)])
    tiny = answers(open_moderator(TINY), rows)
    write("tiny_guard.jsonl", [{"id": row["id"]} | said for row, said in zip(rows, tiny, strict=True)])
