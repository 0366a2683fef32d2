"""One model's server for all tests of the room; each test sees only the requests of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from guard import AsyncGuardClient, GuardClient
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


@pytest.fixture(scope="module")
def down() -> Iterator[GuardClient]:
    """A client of a guard that is down. It tries calls again, which takes half a second, until its budget is spent."""
    with GuardClient("127.0.0.1:9", timeout_s=5) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def down_async() -> AsyncIterator[AsyncGuardClient]:
    async with AsyncGuardClient("127.0.0.1:9", timeout_s=5) as client:
        yield client
