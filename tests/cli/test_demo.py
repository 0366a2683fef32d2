"""`guard demo` as a user runs it, and that a step which fails is not passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "guard", "demo"]


@pytest.mark.slow
@pytest.mark.parametrize("rest", [True, False])
def test_every_command_is_shown_with_what_it_answers(tmp_path: Path, rest: bool) -> None:
    command = [*DEMO, "--rest" if rest else "--no-rest"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    steps = [step.partition("\n") for step in done.stdout.split("\n$ ")[1:]]
    answers = {command: answer for command, _, answer in steps}
    commands = [command.split()[:3] for command in answers]
    assert commands[:3] == [["guard", "check", "'How"], ["guard", "check", "'Write"], ["guard", "policy", "new"]]
    outcomes = [answer.split()[0] for command, answer in answers.items() if command.startswith("guard check")]
    assert outcomes == ["SAFE", "UNSAFE", "UNSAFE", "UNSAFE"]
    (served,) = [answer for command, answer in answers.items() if command.startswith("guard serve")]
    assert served.startswith("guard serving on 127.0.0.1:")
    posted = [answer for command, answer in answers.items() if "/v1/check" in command]
    assert [answer.startswith('{"outcome":"UNSAFE"') for answer in posted] == [True] * rest
    assert "ended" in list(answers.values())[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_step_that_fails_ends_it_with_a_code_and_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "GUARD_SERVE_MODEL": str(tmp_path / "nowhere")}
    done = subprocess.run(
        [*DEMO, "--no-rest"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 3
    assert done.stderr.endswith("guard: `guard serve` has not started; run it by itself\n")
    assert "Traceback" not in done.stderr
