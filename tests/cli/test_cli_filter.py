"""`guard filter` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from guard.cli import main

FAKE = ["--model", "fake", "--policy", "minimal", "--no-report"]
ROWS = '{"prompt": "good morning"}\n{"prompt": "please violates:M1 now"}\n{"prompt": ""}\n'


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(ROWS)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["filter", *map(str, arguments)])
    return end.value.code


def test_keeps_safe_rows_and_prints_the_counts(source, capsys):
    out = source.with_name("out.jsonl")
    assert run(source, out, *FAKE) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("read 3 = kept 1 + dropped 1 + quarantined 1; scored 2 texts\n")
    assert "flagged M1: 1" in printed.out
    assert printed.err == ""
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == ["good morning"]
    assert sorted(path.name for path in source.parent.iterdir()) == [
        "in.jsonl",
        "out.jsonl",
        "out.jsonl.quarantine.jsonl",
        "out.jsonl.report.json",
    ]


def test_options_reach_the_job(source):
    out, quarantine = source.with_name("out.jsonl"), source.with_name("bad.jsonl")
    options = ["--exclude", "M1", "--keep", "all", "--quarantine", quarantine, "--mode", "strict", "--shard-rows", "1"]
    assert run(source, out, *FAKE, *options) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row["guard_categories"]) for row in rows] == [["M2"], ["M2"]]
    assert len(quarantine.read_text().splitlines()) == 1
    report = json.loads(source.with_name("out.jsonl.report.json").read_text())
    assert (report["mode"], report["shard_rows"], report["keep"]) == ("strict", 1, "all")


def test_text_column(source):
    out = source.with_name("out.jsonl")
    source.write_text('{"body": "hello"}\n')
    assert run(source, out, *FAKE, "--text-column", "body") == 0
    assert json.loads(out.read_text())["body"] == "hello"


def test_mistakes_are_one_line_and_exit_code_2(source, capsys):
    out = source.with_name("out.jsonl")
    for arguments, message in (
        ([source.with_name("none.jsonl"), out], "no such file"),
        ([source, source], "which must not be replaced"),
        ([source, out, "--exclude", "M9"], "has no category M9"),
    ):
        assert run(*arguments, *FAKE) == 2
        error = capsys.readouterr().err
        assert error.startswith("guard: ")
        assert message in error
        assert error.count("\n") == 1
    assert run(source, out, *FAKE, "--keep", "good") == 2


def test_exit_code_3_where_not_one_row_could_be_judged(source, capsys):
    out = source.with_name("out.jsonl")
    assert run(source, out, *FAKE, "--text-column", "body") == 3
    assert "kept 0 + dropped 0 + quarantined 3" in capsys.readouterr().out
    source.write_text("")
    assert run(source, out, *FAKE, "--restart") == 0


def test_progress_bar_is_shown_on_a_terminal_only(source):
    command = [sys.executable, "-m", "guard", "filter", str(source), str(source.with_name("out.jsonl")), *FAKE]
    main_end, terminal = pty.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(main_end, 65536)
    os.close(main_end)
    assert b"in.jsonl" in shown
    assert done.stdout.startswith(b"read 3")
    piped = subprocess.run([*command, "--restart"], capture_output=True, check=True)
    assert piped.stderr == b""


@pytest.mark.parametrize("threshold", ["0", "1", "7", "nan"])
def test_a_threshold_that_is_none_leaves_no_unfinished_job(source, capsys, threshold):
    assert run(source, source.with_name("out.jsonl"), *FAKE, "--threshold", threshold) == 2
    assert capsys.readouterr().err == f"guard: --threshold must be > 0 and < 1 (got {threshold})\n"
    assert list(source.parent.iterdir()) == [source]
