"""examples/nginx.conf: calls, batches and streams through a proxy, one of whose two servers is down."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from guard import Conversation, GuardClient
from guard.errors import ServiceError
from tests.examples.conftest import EXAMPLES, run
from tests.fixtures.served import PATIENCE_S, Process

pytestmark = pytest.mark.slow


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@contextmanager
def nginx(first: str, second: str, folder: Path) -> Iterator[str]:
    """The address of nginx before servers at these ports."""
    if (command := shutil.which("nginx")) is None:
        pytest.skip("nginx is not installed")
    settings = (EXAMPLES / "nginx.conf").read_text()
    port = free_port()
    for given, own in (("50051", first), ("50052", second), ("50050", port)):
        settings = settings.replace(f"127.0.0.1:{given}", f"127.0.0.1:{own}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own_folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds) + "access_log off;\n"
    (folder / "nginx.conf").write_text(settings.replace("http {\n", f"http {{\n{own_folders}"))
    options = f"daemon off; pid {folder}/pid; error_log {folder}/error.log;"
    popen = subprocess.Popen([command, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "log", "-g", options])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not answers(port):
            assert popen.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        popen.terminate()
        popen.wait()


def answers(port: str) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def test_calls_and_streams_pass_while_one_server_is_up(process: Process, tmp_path: Path) -> None:
    with nginx(process.address.rpartition(":")[2], free_port(), tmp_path) as address:
        assert run("grpc_client.py", address, "hello", "violates:S1")[1:] == [
            "blocking: passed",
            "blocking: blocked",
            "asyncio: SAFE",
            "asyncio: UNSAFE S1",
            "stream: stopped, 0 of 17 characters shown",
        ]
        with GuardClient(address) as guard:
            answers = guard.moderate_each([Conversation.of("word " * 5000)] * 20)
            assert {type(answer).__name__ for answer in answers} == {"Verdict"}


def test_a_proxy_without_servers_is_no_verdict(tmp_path: Path) -> None:
    with nginx(free_port(), free_port(), tmp_path) as address, GuardClient(address, timeout_s=5) as guard:
        with pytest.raises(ServiceError):
            guard.moderate(Conversation.of("hello"))
        assert guard.blocks(Conversation.of("hello"))
