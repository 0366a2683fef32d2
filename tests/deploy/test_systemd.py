"""The unit: systemd reads it, finds it hardened, and it gives the service the time that it needs."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guard.serve.config import Settings

FILE = Path(__file__).parents[2] / "deploy" / "systemd" / "guard.service"
MOST_EXPOSED = 2.0  # of 10, by `systemd-analyze security`


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_reads_it(tmp_path: Path) -> None:
    unit = tmp_path / FILE.name
    unit.write_text(FILE.read_text().replace("/opt/guard/bin/guard", sys.executable))  # it must exist
    done = analyze("verify", "--man=no", str(unit))
    assert [line for line in done.stderr.splitlines() if FILE.name in line] == []
    broken = tmp_path / "broken.service"
    broken.write_text(unit.read_text().replace("UMask=0077", "UMask=0o77"))
    assert "broken.service" in analyze("verify", "--man=no", str(broken)).stderr


def test_systemd_finds_it_hardened() -> None:
    done = analyze("security", "--offline=true", str(FILE))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze reads no units offline")
    found = re.search(r"Overall exposure level for guard.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSED


def test_it_has_the_time_to_answer_what_it_accepted_and_reloads_by_the_signal_that_guard_knows() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(FILE.read_text())
    service = unit["Service"]
    defaults = Settings()
    assert int(service["TimeoutStopSec"]) >= defaults.lame_duck_seconds + defaults.limits.request_seconds
    assert service["KillMode"] == "mixed"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["ExecStartPre"] == f"{service['ExecStart']} --check-config"
