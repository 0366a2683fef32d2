"""examples/grpc_client.py"""

from __future__ import annotations

import pytest

from tests.examples.conftest import run
from tests.fixtures.served import Process

pytestmark = pytest.mark.slow


def test_every_way_of_calling(process: Process) -> None:
    reply = "Put it into boiling water and wait for eight minutes."
    assert run("grpc_client.py", process.address, "hello", "violates:S1 violates:S2") == [
        "server: policy mlcommons, mode balanced",
        "blocking: passed",
        "blocking: blocked",
        "asyncio: SAFE",
        "asyncio: UNSAFE S1 S2",
        "stream: stopped, 0 of 29 characters shown",
    ]
    assert run("grpc_client.py", process.address, reply)[-1] == f"stream: complete, {len(reply)} of 53 characters shown"
