"""The options that every command has: version, logging; and what is said of a wrong call."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.cli import main
from guard.engines.fake import FakeEngine
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import Moderator
from guard.policy import load
from tests.fixtures import made_up_mirror


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    yield
    logging.getLogger("guard").setLevel(logging.NOTSET)


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "guard", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    return int(end.value.code or 0)


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Arguments of a command whose first request is answered that the server is busy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with made_up_mirror.opened(tmp_path) as garden:
        garden.add("roses.txt")
        garden.first("roses.txt", lambda handler: handler.send(503))
        folders = ["--root", garden.root, "--taxonomy", garden.taxonomy]
        yield ["data", "fetch", *folders, "--base-url", garden.server.url]


@pytest.fixture
def damaged(tmp_path: Path) -> list[object]:
    """Arguments of a command that goes on with a job of which a part is damaged."""

    class Dying(FakeEngine):
        def score(self, windows):
            raise KeyboardInterrupt

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"prompt": "hello"}) + "\n")
    job = Job([source], out, tmp_path / "out.jsonl.quarantine.jsonl")
    with pytest.raises(KeyboardInterrupt):
        filter_rows(job, Moderator(Dying(), load("minimal")))
    (job.parts / "000000.json").write_text(json.dumps({"files": {"kept": "0" * 64}, "record": {}}))
    return ["filter", source, out, "--model", "fake", "--policy", "minimal"]


def test_the_short_form_of_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert (run("-V"), run("--version")) == (0, 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == lines[3:]
    assert lines[0].startswith("guard-service ")


def test_verbose_logs_requests_and_retries_on_stderr(fetching: list[object]) -> None:
    done = process("-v", *fetching)
    assert done.returncode == 0
    assert done.stderr.count(" INFO guard.data.sources.fetch.transfer: GET http") == 2
    assert " INFO guard.llm.retry: attempt 1 of 5: http" in done.stderr
    assert "httpx" not in done.stderr


def test_little_is_logged_by_default(fetching: list[object], caplog: pytest.LogCaptureFixture) -> None:
    assert run(*fetching) == 0
    assert caplog.records == []


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_are_logged_unless_it_is_to_be_quiet(
    damaged: list[object], quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(*["--quiet"] * quiet, *damaged) == 0
    assert [record.name for record in caplog.records] == [] if quiet else ["guard.jobs.ledger"]


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-q", "-v", "policy", "list") == 2
    assert capsys.readouterr() == ("", "guard: --quiet and --verbose exclude each other; give one of them\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chek"], "guard: No such command 'chek'. Did you mean 'check'? See: guard --help\n"),
        (["check", "--plicy", "x"], "guard: No such option: --plicy (Possible options: --explain, --policy)"),
        (["policy", "show"], "guard: Missing argument 'NAME|FILE'; see: guard policy show --help\n"),
        (
            ["bench", "--seconds", "-1"],
            "guard: Invalid value for '--seconds': Input should be greater than or equal to 0",
        ),
        (
            ["check", "--mode", "brave", "x"],
            "'brave' is not one of 'strict', 'balanced', 'permissive'; see: guard check",
        ),
    ],
)
def test_a_wrong_call_is_one_line_that_says_where_help_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["policy"], ["eval"]])
def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: guard" in captured.out
    assert captured.err == ""
