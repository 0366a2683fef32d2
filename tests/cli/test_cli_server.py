"""`guard check --server` asks a real `guard serve`, and says in one line when there is none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GUARD = [sys.executable, "-m", "guard"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [*GUARD, "serve", "--port", "0", "--model", "fake"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"serving on (\S+)", process.stdout.readline())
        assert found is not None
        yield found[1]
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        process.stdout.close()


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GUARD, "check", *arguments], capture_output=True, text=True, timeout=60)


def test_a_text(address: str) -> None:
    assert check("--server", address, "hello").returncode == 0
    flagged = check("--server", address, "so violates:S1", "--json")
    assert flagged.returncode == 1
    assert json.loads(flagged.stdout)["flagged"] == ["S1"]
    assert check("--server", address, "--exclude", "S1", "so violates:S1").returncode == 0


def test_a_policy_file_is_sent(address: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("id: own\nversion: '1'\nname: Own\ncategories:\n  - {code: X1, name: X, definition: Things.}\n")
    answer = check("--server", address, "--policy", str(own), "violates:X1", "--json")
    assert json.loads(answer.stdout)["flagged"] == ["X1"]


def test_rows_and_a_broken_one(address: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hi"}\n{broken\n{"id": "b", "prompt": "violates:S2", "response": "no"}\n')
    done = check("--server", address, "--file", str(rows), "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert [answer.get("outcome", answer.get("line")) for answer in answers] == ["SAFE", 2, "SAFE"]


def test_no_server_is_one_line_and_exit_3() -> None:
    done = check("--server", "127.0.0.1:1", "hello")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1" in done.stderr
