"""What a command decided reaches its caller, whatever becomes of its output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = [sys.executable, "-m", "guard"]
UNSAFE = "violates:S1"


def code_without_reader(*arguments: str) -> int:
    """The exit code of a command whose standard output is a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen([*GUARD, *arguments], stdout=writing, stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        return process.wait(60)


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize(("text", "code"), [(UNSAFE, 1), ("hello", 0)])
def test_the_code_of_a_verdict_survives_a_lost_reader(text: str, code: int, form: list[str]) -> None:
    assert code_without_reader("check", "--model", "fake", *form, text) == code


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_file_with_a_broken_row_stays_undecided(tmp_path: Path, form: list[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("no JSON\n" + json.dumps({"prompt": "hello"}) + "\n")
    assert code_without_reader("check", "--model", "fake", *form, "--file", str(rows)) == 3


def test_listings_end_well_without_a_reader() -> None:
    assert code_without_reader("policy", "list") == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_undecided(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [*GUARD, "check", "--model", "fake", "hello"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 3
    assert done.stderr == "guard: standard output: cannot be written: No space left on device\n"


def test_an_error_that_nobody_foresaw_is_not_taken_for_a_verdict() -> None:
    code = """
from guard import cli

@cli.app.command("boom")
def boom():
    raise ZeroDivisionError("kumquat")

cli.main(["boom"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "kumquat" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_a_command_without_a_word() -> None:
    reading, writing = os.pipe()
    command = [*GUARD, "check", "--model", "fake", "--file", "-", "--json"]
    with subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        os.close(reading)
        os.write(writing, b'{"prompt": "hello"}\n' * 300)  # more than one chunk, so that the first is answered
        assert process.stdout is not None
        assert process.stdout.read(1) == b"{"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        os.close(writing)
    assert (process.returncode, errors) == (130, b"")
