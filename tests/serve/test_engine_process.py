"""A server whose engine is a process of its own: it is killed, hangs with its parent, drains and is reloaded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard import AsyncGuardClient, Conversation, GuardError, Verdict, document
from guard.engines.base import Engine
from guard.engines.fake import FakeEngine
from guard.engines.pool import EnginePool
from guard.errors import Closed, EngineDown, EngineError, ServiceError
from guard.serve.grpc.servicer import SERVICE
from guard.serve.limits import Limits
from tests.fixtures.crashing import CrashingEngine, gated
from tests.fixtures.served import Process, Served, serve, started

HELLO = Conversation.of("how do I bake bread?")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def engines(process: Process) -> list[psutil.Process]:
    """The processes that score for a server, without those that have just ended."""
    found = []
    for child in psutil.Process(process.popen.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command line
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(60):
        while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def asking(address: str, callers: int) -> AsyncIterator[Counter[str]]:
    """So many callers, each of which asks again when it is answered; how their calls ended. None may hang."""
    calls: Counter[str] = Counter()

    async def ask(client: AsyncGuardClient, number: int) -> None:
        while True:
            try:
                async with asyncio.timeout(60):
                    await client.moderate(Conversation.of(f"text {number} {calls.total()}"))
                calls["ok"] += 1
            except GuardError as error:
                calls[type(error).__name__] += 1
                await asyncio.sleep(0.02)
            except TimeoutError:
                calls["hang"] += 1

    async with AsyncGuardClient(address) as client:
        tasks = [asyncio.create_task(ask(client, number)) for number in range(callers)]
        try:
            yield calls
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def more(calls: Counter[str], name: str = "ok") -> None:
    """Returns when ten more calls have ended like this."""
    goal = calls[name] + 10
    async with asyncio.timeout(120):
        while calls[name] < goal:
            await asyncio.sleep(0.005)


async def test_a_killed_engine_is_told_at_once_and_replaced(tmp_path: Path) -> None:
    with started(tmp_path / "stderr") as process:
        async with grpc.aio.insecure_channel(process.address) as channel, asking(process.address, 8) as calls:
            states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await states.read()).status == SERVING
            for _ in range(2):
                await more(calls)
                (engine,) = engines(process)
                killed = time.monotonic()
                engine.kill()
                assert (await states.read()).status == NOT_SERVING
                assert time.monotonic() - killed < 1
                assert (await states.read()).status == SERVING
                await more(calls)
            states.cancel()
        assert set(calls) <= {"ok", EngineDown.__name__}
        assert calls[EngineDown.__name__] > 0
        left = engines(process)
        process.popen.terminate()
        assert process.popen.wait(60) == 0
        await gone(left)
    assert "text" not in process.errors.read_text()


async def test_an_engine_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path / "stderr", "--workers", "2") as process:
        async with AsyncGuardClient(process.address) as client:
            assert isinstance(await client.moderate(HELLO), Verdict)
        children = psutil.Process(process.popen.pid).children(recursive=True)
        assert len(engines(process)) == 2
        process.popen.kill()
        process.popen.wait()
        await gone(children)


async def test_a_signal_to_the_whole_group_drains_as_well(tmp_path: Path) -> None:
    """As systemd sends it: the engine must not end before what was accepted is answered."""
    script = "import os, sys; os.setpgrp(); from guard.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "serve", "--model", "fake", "--port", "0"]
    with started(tmp_path / "stderr", command=command) as process:
        left = psutil.Process(process.popen.pid).children()
        async with asking(process.address, 8) as calls:
            await more(calls)
            os.killpg(process.popen.pid, signal.SIGTERM)
            while process.popen.poll() is None:
                await asyncio.sleep(0.01)
            assert process.popen.returncode == 0
        await gone(left)
    assert set(calls) <= {"ok", Closed.__name__, ServiceError.__name__}
    assert "ended" not in process.errors.read_text()


async def test_reloads_with_workers_under_load(tmp_path: Path) -> None:
    config, policy = tmp_path / "serve.yaml", tmp_path / "own.yaml"
    categories = [{"code": "X1", "name": "Kumquats", "definition": "Small fruit."}]
    own = {"id": "own", "name": "Own", "categories": categories}

    def write(version: int) -> None:
        policy.write_text(document.dump({**own, "version": str(version)}))

    write(0)
    config.write_text(document.dump({"model": "fake", "policy": str(policy), "workers": 2, "port": 0}))
    command = [sys.executable, "-m", "guard", "serve", "--config", str(config)]
    with started(tmp_path / "stderr", command=command) as process:
        async with asking(process.address, 8) as calls, AsyncGuardClient(process.address) as client:
            seen = {(await client.moderate(HELLO)).policy}
            for version in (1, 2):
                before = engines(process)
                assert len(before) == 2
                write(version)
                process.popen.send_signal(signal.SIGHUP)
                async with asyncio.timeout(120):
                    while len(seen) == version:
                        batch = await client.moderate_each([Conversation.of(f"{number}") for number in range(8)])
                        policies = {answer.policy for answer in batch if isinstance(answer, Verdict)}
                        assert len(policies) == 1, batch
                        seen |= policies
                await gone(before)
            assert set(calls) == {"ok"}
        process.popen.terminate()
        assert process.popen.wait(60) == 0


@asynccontextmanager
async def crashing(workers: int = 1, opener: Callable[[], Engine] = CrashingEngine) -> AsyncIterator[Served]:
    pool = EnginePool(FakeEngine(), opener, workers)
    try:
        async with serve(pool, Limits(batch_conversations=64), rest=True) as served:
            yield served
    finally:
        pool.close()


async def a_reply() -> AsyncIterator[str]:
    yield "A reply. "


async def test_until_the_next_process_is_ready_every_surface_says_so(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with (
        crashing(opener=partial(gated, gate)) as served,
        grpc.aio.insecure_channel(served.running.address) as channel,
        httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http,
    ):
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await states.read()).status == SERVING
        gate.unlink()
        with pytest.raises(EngineDown, match="another is being started; try again in a few seconds"):
            await served.client.moderate(Conversation.of("this ends now"))
        assert (await states.read()).status == NOT_SERVING
        with pytest.raises(EngineDown):
            await served.client.moderate(HELLO)
        with pytest.raises(EngineDown):
            async for _ in served.client.stream(a_reply()):
                pass
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
        told = await http.post("/v1/moderations", json={"input": "hello"})
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        gate.touch()
        assert (await states.read()).status == SERVING
        assert isinstance(await served.client.moderate(HELLO), Verdict)
        assert (await http.get("/readyz")).status_code == 200
        states.cancel()


async def test_a_poison_item_in_a_batch_of_64_fails_alone() -> None:
    texts = [Conversation.of(f"text {number}") for number in range(64)]
    texts[40] = Conversation.of("kumquat breaks score")
    async with crashing() as served:
        answers = await served.client.moderate_each(texts)
    assert [index for index, answer in enumerate(answers) if not isinstance(answer, Verdict)] == [40]
    assert type(answers[40]) is EngineError
    assert "kumquat" not in str(answers[40])


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_item_that_ends_the_process_hangs_nobody(workers: int) -> None:
    async with crashing(workers) as served, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        texts = [Conversation.of(f"text {number}") for number in range(16)]
        answers = await served.client.moderate_each([*texts, Conversation.of("this ends now")])
        assert isinstance(answers[-1], EngineDown)
        assert {type(answer) for answer in answers} <= {Verdict, EngineDown}
        async with asyncio.timeout(60):
            while not served.running.service.ready:
                told = await http.post(f"{served.running.rest_url}/v1/check", json={"prompt": "hello"})
                assert (told.status_code, told.headers.get("retry-after")) in ((503, "1"), (200, None))
                await asyncio.sleep(0.01)
        assert all(isinstance(each, Verdict) for each in await served.client.moderate_each(texts))


async def test_batches_go_to_all_workers() -> None:
    async with crashing(2) as served:
        hanging = asyncio.create_task(served.client.moderate(Conversation.of("this hangs")))
        await served.accepted(1)
        assert isinstance(await served.client.moderate(HELLO), Verdict)
        hanging.cancel()
        served.running.service.moderator.close()  # the process that hangs would be waited for
