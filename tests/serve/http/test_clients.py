"""Clients as their users install them; those that are too heavy for this environment: benchmarks/clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.served import Process

SCRIPTS = Path(__file__).parents[3] / "benchmarks" / "clients"


@pytest.mark.slow
def test_the_client_of_openai(process: Process) -> None:
    command = [sys.executable, str(SCRIPTS / "with_openai.py"), process.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("moderations and decisions: ok\n")
