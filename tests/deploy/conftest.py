"""One `guard serve` for the tests of what runs beside it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.fixtures.served import Process, started


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Over gRPC and HTTP, with the listener for operations that images and charts use."""
    errors = tmp_path_factory.mktemp("serve") / "stderr"
    with started(errors, "--rest-port", "0", "--metrics-port", "0") as process:
        yield process
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(20) == 0


@pytest.fixture(scope="package")
def operations(process: Process) -> str:
    """The URL of its /metrics, /healthz and /readyz."""
    found = re.search(r"metrics at (\S+)/metrics", process.line)
    assert found, process.line
    return found[1]


@pytest.fixture(scope="package")
def scraped(operations: str) -> set[str]:
    """The names of the samples and families of a real scrape."""
    page = httpx.get(f"{operations}/metrics", trust_env=False).text
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    parts = [f"{name}_{part}" for name, kind in families.items() if kind == "histogram" for part in ("bucket", "sum")]
    return {*families, *parts, *(f"{name}_count" for name, kind in families.items() if kind == "histogram")}
