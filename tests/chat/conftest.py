"""One model's server for all tests of the room; each test sees only the requests of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures import upstream as upstreams
from tests.fixtures.served import Process, started
from tests.fixtures.upstream import Upstream


@pytest.fixture(scope="package")
def running() -> Iterator[Upstream]:
    with upstreams.upstream() as running:
        yield running


@pytest.fixture
def upstream(running: Upstream) -> Upstream:
    running.bodies.clear()
    running.headers.clear()
    running.broken_off.clear()
    return running


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with started(tmp_path_factory.mktemp("serve") / "stderr") as process:
        yield process
