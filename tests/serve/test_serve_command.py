"""`guard serve` as a user runs it, and what its signals do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard import AsyncGuardClient, Conversation, GuardClient, Moderator, Outcome, Verdict
from guard.errors import Closed, ServiceError
from guard.policy import load
from guard.serve.grpc.server import Settings, run, serving
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from tests.fixtures.served import HeldEngine

SERVE = [sys.executable, "-m", "guard", "serve"]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HELLO = Conversation.of("how do I bake bread?")

# A service whose engine never answers, to be told to stop.
STUCK = """
import asyncio, threading
from guard import Moderator
from guard.engines.fake import FakeEngine
from guard.policy import load
from guard.serve.grpc.server import Settings, run
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub

class Stuck(FakeEngine):
    def score(self, windows):
        threading.Event().wait()

announce = lambda address: print("serving on", address, flush=True)
asyncio.run(run(Moderator(Stuck(), load("minimal")), Settings(port=0), announce))
"""


@contextmanager
def started(command: list[str], errors: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server's process, its line of readiness and its address."""
    with errors.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            line = process.stdout.readline()
            found = re.search(r"serving on (\S+)", line)
            assert found, errors.read_text()
            yield process, line, found[1]
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """The ready line, address and stderr of one `guard serve`, which must end well."""
    errors = tmp_path_factory.mktemp("serve") / "stderr"
    command = [*SERVE, "--model", "fake", "--port", "0", "--max-characters", "5000"]
    with started(command, errors) as (process, line, address):
        yield line, address, errors
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_it_says_where_and_what_it_serves(served: tuple[str, str, Path]) -> None:
    line, address, _ = served
    with GuardClient(address) as client:
        info = client.info
    policy = load("mlcommons")
    assert line == f"guard serving on {address} (model {info.model[:12]}, policy mlcommons {policy.digest[:12]})\n"
    assert address.startswith("127.0.0.1:")
    assert info.limits.conversation_characters == 5000


def test_verdicts_and_no_word_of_a_user_on_stderr(served: tuple[str, str, Path]) -> None:
    _, address, errors = served
    with GuardClient(address) as client:
        assert client.moderate(HELLO).outcome is Outcome.SAFE
        texts = ["kumquat", "kumquat violates:S4", "kumquat" * 1000, "kumquat " * 600]
        answers = client.moderate_each([Conversation.of(text) for text in texts])
    assert [isinstance(answer, Verdict) for answer in answers] == [True, True, False, True]
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/guard.v1.ModerationService/Moderate")(b"kumquat\xff")
    assert "kumquat" not in errors.read_text()


def test_a_port_in_use_is_one_line(served: tuple[str, str, Path]) -> None:
    port = served[1].rpartition(":")[2]
    done = subprocess.run([*SERVE, "--model", "fake", "--port", port], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(rf"guard: cannot listen on 127.0.0.1:{port}: .*give another --host or --port\n", done.stderr)


def test_a_mode_that_is_none_is_a_usage_error() -> None:
    done = subprocess.run([*SERVE, "--mode", "lenient"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "strict, balanced, permissive" in done.stderr


async def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path) -> None:
    first = asyncio.Event()

    async def ask(client: AsyncGuardClient, index: int) -> Verdict | ServiceError:
        try:
            return await client.moderate(Conversation.of(f"text {index}"))
        except ServiceError as error:
            return error
        finally:
            first.set()

    errors = tmp_path / "stderr"
    with started([*SERVE, "--model", "fake", "--port", "0"], errors) as (process, _, address):
        async with AsyncGuardClient(address) as client:
            asked = [asyncio.create_task(ask(client, index)) for index in range(200)]
            await first.wait()
            process.terminate()
            answers = await asyncio.gather(*asked)
        assert process.wait(20) == 0
    assert any(isinstance(answer, Verdict) for answer in answers)
    for answer in answers:
        assert isinstance(answer, Verdict | Closed) or "cannot be reached" in str(answer)
    assert errors.read_text() == ""


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of RFC 9113, section 4.1."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def http2_request(path: bytes) -> bytes:
    """The bytes of a connection that makes one gRPC request: preface, SETTINGS, HEADERS (RFC 7541, no indexing)."""
    headers = (
        (b":path", path),
        (b":authority", b"guard"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    literals = [b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers]
    block = b"\x83\x86" + b"".join(literals)  # :method POST and :scheme http, by their places in the static table
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(4, 0, 0, b"") + http2_frame(1, 5, 1, block)


@pytest.mark.parametrize("path", [b"/a\xff", b"/\xc3", b"\x00", b"/guard.v1.ModerationService/Moderate\xff", b""])
def test_a_path_that_is_no_text_stops_nothing(served: tuple[str, str, Path], path: bytes) -> None:
    _, address, _ = served
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(http2_request(path))
        raw.settimeout(10)
        assert raw.recv(1)  # it answers something, be it only its settings
    with GuardClient(address) as client:
        assert client.moderate(HELLO).outcome is Outcome.SAFE


async def test_a_server_whose_listener_dies_says_so() -> None:
    moderator = Moderator(HeldEngine(), load("mlcommons"))
    async with serving(moderator, Settings(port=0, lame_duck_seconds=0)) as running:
        stopped = asyncio.create_task(running.stopped())
        await asyncio.sleep(0)
        assert not stopped.done()
        await running.server.stop(0)
        await asyncio.wait_for(stopped, 10)


@pytest.fixture
def restored_signals() -> Iterator[None]:
    kept = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in kept.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("restored_signals")
async def test_sigterm_says_not_serving_refuses_new_and_answers_accepted_requests() -> None:
    engine = HeldEngine()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    moderator = Moderator(engine, load("mlcommons"))
    service = asyncio.create_task(run(moderator, Settings(port=0, lame_duck_seconds=0), ready.set_result))
    async with AsyncGuardClient(await ready) as client, grpc.aio.insecure_channel(client.target) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING
        accepted = [asyncio.create_task(client.moderate_each([HELLO, HELLO])) for _ in range(3)]
        assert await asyncio.to_thread(engine.busy.wait, 10)
        await ModerationServiceStub(channel).GetInfo(pb.GetInfoRequest())  # after them, so they have been accepted
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await states.read()).status == NOT_SERVING
        with pytest.raises(Closed):
            await client.moderate(HELLO)
        assert not any(task.done() for task in accepted)
        engine.gate.set()
        for task in accepted:
            assert [answer.outcome for answer in await task] == [Outcome.SAFE] * 2
        await service


@pytest.mark.usefixtures("restored_signals")
async def test_a_service_whose_batcher_dies_ends_with_an_error() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    moderator = Moderator(HeldEngine(), load("mlcommons"))
    service = asyncio.create_task(run(moderator, Settings(port=0, lame_duck_seconds=0), ready.set_result))
    await ready
    (batcher,) = (task for task in asyncio.all_tasks() if task.get_name() == "guard-batcher")
    batcher.cancel()
    with pytest.raises(Closed, match="its batcher or its listener died; start it again"):
        await service


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(what: signal.Signals, tmp_path: Path) -> None:
    with (
        started([sys.executable, "-c", STUCK], tmp_path / "stderr") as (process, _, address),
        grpc.insecure_channel(address) as channel,
        GuardClient(address, 20) as client,
    ):
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        request = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]})
        waiting = ModerationServiceStub(channel).Moderate.future(request, timeout=20)
        _ = client.info  # asked after it, so it has been accepted
        process.send_signal(what)
        assert next(states).status == NOT_SERVING
        assert not waiting.done()
        process.send_signal(what)
        assert process.wait(10) == -what
        assert isinstance(waiting.exception(), grpc.RpcError)
        states.cancel()
