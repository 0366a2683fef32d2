"""The README's numbers, and those of the benchmarks' page, are those that were measured; its files exist.

That its commands work is tested with those of all pages, in tests/docs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_what_was_measured() -> None:
    done = subprocess.run([sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_commands_name_files_that_exist() -> None:
    for name in ("constraints.txt", "examples/chats.jsonl", "examples/bakery.yaml"):
        assert name in README
        assert (ROOT / name).is_file()
