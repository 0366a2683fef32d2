"""`guard serve` as a user runs it, and what its signals do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard import AsyncGuardClient, Conversation, GuardClient, Moderator, Outcome, Verdict
from guard.cli import main
from guard.errors import Closed, ServiceError
from guard.policy import load
from guard.serve.server import Running, Settings, run, serving
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from tests.fixtures import http2
from tests.fixtures.served import HeldEngine, Process, started

SERVE = [sys.executable, "-m", "guard", "serve"]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HELLO = Conversation.of("how do I bake bread?")

# A service whose engine never answers, to be told to stop.
STUCK = """
import asyncio, threading
from guard import Moderator
from guard.engines.fake import FakeEngine
from guard.policy import load
from guard.serve.server import Settings, run
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub

class Stuck(FakeEngine):
    def score(self, windows):
        threading.Event().wait()

announce = lambda running: print("serving on", running.address, flush=True)
asyncio.run(run(Moderator(Stuck(), load("minimal")), Settings(port=0), announce))
"""


def test_it_says_where_and_what_it_serves(process: Process) -> None:
    with GuardClient(process.address) as client:
        info = client.info
    digests = f"model {info.model[:12]}, policy mlcommons {load('mlcommons').digest[:12]}"
    assert process.line == f"guard serving on {process.address} and {process.url} ({digests})\n"
    assert process.address.startswith("127.0.0.1:")
    assert info.limits.conversation_characters == 5000


def test_verdicts_and_no_word_of_a_user_on_stderr(process: Process) -> None:
    with GuardClient(process.address) as client:
        assert client.moderate(HELLO).outcome is Outcome.SAFE
        texts = ["kumquat", "kumquat violates:S4", "kumquat" * 1000, "kumquat " * 600]
        answers = client.moderate_each([Conversation.of(text) for text in texts])
    assert [isinstance(answer, Verdict) for answer in answers] == [True, True, False, True]
    with grpc.insecure_channel(process.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/guard.v1.ModerationService/Moderate")(b"kumquat\xff")
    assert "kumquat" not in process.errors.read_text()


def test_a_port_in_use_is_one_line(process: Process) -> None:
    port = process.address.rpartition(":")[2]
    done = subprocess.run([*SERVE, "--model", "fake", "--port", port], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(rf"guard: cannot listen on 127.0.0.1:{port}: .*give another --host or --port\n", done.stderr)


def test_a_mode_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--mode", "lenient"])
    assert ended.value.code == 2
    assert "--mode: mode: must be 'strict', 'balanced' or 'permissive'" in capsys.readouterr().err


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
    with started(errors) as process:
        async with AsyncGuardClient(process.address) as client:
            asked = [asyncio.create_task(ask(client, index)) for index in range(200)]
            await first.wait()
            process.popen.terminate()
            answers = await asyncio.gather(*asked)
        assert process.popen.wait(20) == 0
    assert any(isinstance(answer, Verdict) for answer in answers)
    for answer in answers:
        assert isinstance(answer, Verdict | Closed) or "cannot be reached" in str(answer)
    assert errors.read_text() == ""


@pytest.mark.parametrize("path", [b"/a\xff", b"/\xc3", b"\x00", b"/guard.v1.ModerationService/Moderate\xff", b""])
def test_a_path_that_is_no_text_stops_nothing(process: Process, path: bytes) -> None:
    with http2.connection(process.address) as raw:
        raw.sendall(http2.request(path))
        assert raw.recv(1)  # it answers something, be it only its settings
    with GuardClient(process.address) as client:
        assert client.moderate(HELLO).outcome is Outcome.SAFE


def cut_off(address: str, pause_s: float) -> bool:
    """Whether a client that makes no call and pings six times, with such pauses, loses its connection."""
    with http2.connection(address) as raw:
        try:
            for _ in range(6):
                raw.sendall(http2.frame(http2.PING, payload=b"guard ok"))
                time.sleep(pause_s)
            raw.settimeout(0.2)
            return any(kind == http2.GOAWAY for kind, _, _ in http2.frames(raw))
        except TimeoutError:
            return False
        except OSError:
            return True


async def test_a_client_may_ping_as_often_as_gateways_do() -> None:
    moderator = Moderator(HeldEngine(), load("minimal"))
    async with serving(moderator, Settings(port=0, lame_duck_seconds=0, least_ping_seconds=0.02)) as running:
        assert not await asyncio.to_thread(cut_off, running.address, 0.05)
    assert Settings().least_ping_seconds < 10  # what Go, Java and gateways take
    async with serving(moderator, Settings(port=0, lame_duck_seconds=0)) as running:
        assert await asyncio.to_thread(cut_off, running.address, 0)


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
    ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    moderator = Moderator(engine, load("mlcommons"))
    service = asyncio.create_task(run(moderator, Settings(port=0, lame_duck_seconds=0), ready.set_result))
    async with AsyncGuardClient((await ready).address) as client, grpc.aio.insecure_channel(client.target) as channel:
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
    ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    moderator = Moderator(HeldEngine(), load("mlcommons"))
    service = asyncio.create_task(run(moderator, Settings(port=0, lame_duck_seconds=0), ready.set_result))
    await ready
    (batcher,) = (task for task in asyncio.all_tasks() if task.get_name() == "guard-batcher")
    batcher.cancel()
    with pytest.raises(Closed, match="its batcher or its listener failed; restart it"):
        await service


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(what: signal.Signals, tmp_path: Path) -> None:
    with (
        started(tmp_path / "stderr", command=[sys.executable, "-c", STUCK]) as process,
        grpc.insecure_channel(process.address) as channel,
        GuardClient(process.address, 20) as client,
    ):
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        request = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]})
        waiting = ModerationServiceStub(channel).Moderate.future(request, timeout=20)
        _ = client.info  # asked after it, so it has been accepted
        process.popen.send_signal(what)
        assert next(states).status == NOT_SERVING
        assert not waiting.done()
        process.popen.send_signal(what)
        assert process.popen.wait(10) == -what
        assert isinstance(waiting.exception(), grpc.RpcError)
        states.cancel()


def test_signals_during_the_start(tmp_path: Path) -> None:
    """A policy that does not come (a pipe) holds the start up; SIGHUP asks for nothing then, and SIGTERM ends it."""
    pipe = tmp_path / "policy.yaml"
    os.mkfifo(pipe)
    command = [*SERVE, "--model", "fake", "--port", "0", "--policy", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        while True:  # until it has opened the pipe
            assert server.poll() is None
            try:
                writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                time.sleep(0.02)
        try:
            server.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            assert server.poll() is None
            server.terminate()
            assert server.wait(10) == 0
        finally:
            os.close(writer)
            server.kill()


def test_http_without_its_extra_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['starlette'] = None; from guard.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "serve", "--model", "fake", "--port", "0", "--rest-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"guard: starlette is not installed; .*\.\[rest\].*\n", done.stderr)
