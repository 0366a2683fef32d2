"""One `guard serve` for the tests that only ask it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.fixtures.served import Process, started


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """It takes 5,000 characters, and must end well."""
    errors = tmp_path_factory.mktemp("serve") / "stderr"
    with started(errors, "--max-characters", "5000", "--rest-port", "0") as process:
        yield process
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(20) == 0


@pytest.fixture(scope="package")
def http(process: Process) -> Iterator[httpx.Client]:
    """A client of its HTTP side."""
    with httpx.Client(base_url=process.url, trust_env=False, timeout=20) as client:
        yield client
