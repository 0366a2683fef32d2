"""guard.jobs.lock: of many who want a lock at the same time, one has it."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from guard.errors import DataError
from guard.jobs.lock import locked

COUNT = """
import contextlib, sys
from pathlib import Path
from guard.errors import DataError
from guard.jobs.lock import locked
path = Path(sys.argv[1])
for _ in range(50):
    while True:
        with contextlib.suppress(DataError):
            with locked(path):
                path.write_text(str(int(path.read_text()) + 1))
            break
"""


def test_processes_that_take_turns_lose_no_update(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, path]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert path.read_text() == "150"
    assert list(tmp_path.iterdir()) == [path]


def test_locks_of_different_outputs_do_not_meet(tmp_path):
    with contextlib.suppress(DataError), locked(tmp_path / "a"), locked(tmp_path / "b"):
        assert len(list(tmp_path.iterdir())) == 2
