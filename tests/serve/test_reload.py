"""Reloads: another model takes over at once and for whole requests, and a failed one changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from guard import AsyncGuardClient, Conversation, GuardClient, Moderator, Outcome, Verdict, document
from guard.cli import main
from guard.engines.fake import FakeEngine
from guard.errors import BundleError, PermissionDenied, ReloadFailed, ServiceError, Unauthenticated
from guard.policy import load
from guard.serve.client.admin import reload
from guard.serve.core.keys import Scope, new_key
from guard.serve.core.live import Live
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Service
from guard.serve.limits import Limits
from tests.fixtures.served import HeldEngine, serve, started

SERVE = [sys.executable, "-m", "guard", "serve"]
HELLO = Conversation.of("hello")
POLICY = "id: own\nversion: '{}'\nname: Own\ncategories:\n  - {{code: X1, name: Kumquats, definition: Small fruit.}}\n"


class Numbered(FakeEngine):
    """A FakeEngine with a digest of its own, which notes that it was closed, and must not be used from then on."""

    def __init__(self, number: int) -> None:
        self.closed = False
        self.info = dataclasses.replace(FakeEngine.info, digest=hashlib.sha256(b"%d" % number).hexdigest())

    def close(self) -> None:
        self.closed = True

    def score(self, windows):  # type: ignore[no-untyped-def]
        assert not self.closed
        time.sleep(0.002)
        return super().score(windows)


def moderators(engines: list[Numbered], count: int = 1000) -> Iterator[Moderator]:
    for number in range(count):
        engines.append(Numbered(number))
        yield Moderator(engines[-1], load(("mlcommons", "minimal")[number % 2]))


async def under_load(reloads: int) -> None:
    """So many reloads while four clients ask over gRPC and HTTP: no error, and one model in each answer."""
    engines: list[Numbered] = []
    opened = moderators(engines)
    first = next(opened)
    done = asyncio.Event()
    seen: set[str] = set()

    async def singles(client: AsyncGuardClient) -> None:
        while not done.is_set():
            seen.add((await client.moderate(HELLO)).model)

    async def batches(client: AsyncGuardClient) -> None:
        conversations = [Conversation.of(f"{index} " * 200) for index in range(8)]
        while not done.is_set():
            answers = await client.moderate_each(conversations)
            assert all(isinstance(each, Verdict) for each in answers), answers
            assert len({(each.model, each.policy) for each in answers if isinstance(each, Verdict)}) == 1

    async def posts(url: str) -> None:
        rows = {"conversations": [{"prompt": f"{index}"} for index in range(4)]}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
            while not done.is_set():
                results = (await http.post("/v1/check", json=rows)).json()["results"]
                assert len({(each["model"], each["policy"]) for each in results}) == 1
                moderated = await http.post("/v1/moderations", json={"input": "hello"})
                assert moderated.status_code == 200, moderated.text

    async with serve(first.engine, policy=first.policy, rest=True, reopen=lambda: next(opened)) as served:  # type: ignore[arg-type]
        live = served.running.live
        async with asyncio.TaskGroup() as group:
            for work in (singles(served.client), batches(served.client), posts(str(served.running.rest_url))):
                group.create_task(work)
            while not seen:
                await asyncio.sleep(0.001)
            for number in range(1, reloads + 1):
                digest = (await live.reload()).moderator.engine.info.digest
                assert digest == engines[number].info.digest
                while digest not in seen:  # until it has answered
                    await asyncio.sleep(0.001)
            done.set()
    assert seen == {engine.info.digest for engine in engines}
    assert all(engine.closed for engine in engines[:-1])


async def test_five_reloads_under_load() -> None:
    await under_load(5)


@pytest.mark.slow
async def test_a_hundred_reloads_under_load() -> None:
    await under_load(100)


async def test_what_was_accepted_before_is_answered_by_the_model_that_accepted_it() -> None:
    held, fresh = HeldEngine(), Numbered(1)
    async with serve(held, reopen=lambda: Moderator(fresh, load("minimal"))) as served:
        waiting = asyncio.create_task(served.client.moderate(HELLO))
        await served.accepted(1)
        await served.running.live.reload()
        assert (await served.client.moderate(HELLO)).model == fresh.info.digest
        assert not waiting.done()
        held.gate.set()
        assert (await waiting).model == FakeEngine.info.digest
    assert not fresh.closed  # it belongs to whoever opened it, until another replaces it


async def test_a_failed_load_keeps_the_old_model_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    def damaged() -> Moderator:
        raise BundleError("bundles/new/model.onnx: damaged")

    async with serve(rest=True, reopen=damaged) as served:
        for _ in range(2):
            with pytest.raises(ReloadFailed, match=r"goes on: bundles/new/model\.onnx: damaged"):
                await served.running.live.reload()
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        async with httpx.AsyncClient(trust_env=False) as http:
            page = (await http.get(f"{served.running.rest_url}/metrics")).text
    assert 'guard_reloads_total{result="failed"} 2.0' in page
    assert 'guard_reloads_total{result="ok"} 0.0' in page
    assert (
        caplog.messages.count(
            "reload failed, the model that was loaded before goes on: bundles/new/model.onnx: damaged"
        )
        == 2
    )


async def test_a_model_is_described_in_the_moment_in_which_it_goes_live() -> None:
    """And not while it is still being prepared, nor when that fails."""
    described: list[str] = []
    preparing, go_on = asyncio.Event(), asyncio.Event()
    opened = moderators([])
    fails = False

    async def prepare(fresh: Service) -> Callable[[], None]:
        model = (await fresh.info(Options())).model
        preparing.set()
        await go_on.wait()
        if fails:
            raise BundleError("no")

        def announce() -> None:
            assert live.service is fresh
            described.append(model)

        return announce

    go_on.set()
    live = Live(Service(next(opened), Limits()), lambda: Service(next(opened), Limits()), prepare)
    async with live:
        go_on.clear()
        preparing.clear()
        reloading = asyncio.create_task(live.reload())
        await preparing.wait()
        (answer,) = await live.service.judge(Request((HELLO,)))
        assert isinstance(answer, Verdict)
        assert described == [answer.model]
        go_on.set()
        fresh = await reloading
        assert described[1:] == [fresh.moderator.info.model]
        fails = True
        with pytest.raises(ReloadFailed):
            await live.reload()
        assert len(described) == 2
        assert live.service is fresh


async def test_metrics_tell_of_the_model_that_answers() -> None:
    class Slow(Numbered):
        def warm(self) -> None:
            going_on.wait(20)

    going_on = threading.Event()
    slow = Slow(7)
    async with (
        serve(rest=True, reopen=lambda: Moderator(slow, load("minimal"))) as served,
        httpx.AsyncClient(trust_env=False) as http,
    ):

        async def described() -> str:
            page = (await http.get(f"{served.running.rest_url}/metrics")).text
            return next(line for line in page.splitlines() if line.startswith("guard_model_info{"))

        reloading = asyncio.create_task(served.running.live.reload())
        await asyncio.sleep(0.05)
        assert FakeEngine.info.digest in await described()
        going_on.set()
        await reloading
        assert slow.info.digest in await described()


async def test_an_engine_that_fails_to_warm_up_is_closed_and_not_used() -> None:
    class Cold(Numbered):
        def warm(self) -> None:
            raise RuntimeError("kumquat")

    cold = Cold(1)
    async with serve(reopen=lambda: Moderator(cold, load("minimal"))) as served:
        with pytest.raises(ReloadFailed, match="goes on: RuntimeError"):
            await served.running.live.reload()
        assert cold.closed
        assert (await served.client.moderate(HELLO)).model == FakeEngine.info.digest


def keys_file(path: Path, *scopes: Scope) -> list[str]:
    made = [new_key(scope, (scope,)) for scope in scopes]
    entries = [{"name": key.name, "sha256": key.sha256, "scopes": list(key.scopes)} for _, key in made]
    path.write_text(document.dump({"keys": entries}))
    return [clear for clear, _ in made]


async def test_the_call_needs_a_key_with_the_scope_admin(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    admin, app = keys_file(file, "admin", "moderate")
    engines: list[Numbered] = []
    opened = moderators(engines)
    async with serve(reopen=lambda: next(opened), api_keys=file) as served:
        address = served.running.address
        for key, error in (("", Unauthenticated), ("guard_x", Unauthenticated), (app, PermissionDenied)):
            with pytest.raises(error):
                await asyncio.to_thread(reload, address, 10, key)
        assert not engines
        done = await asyncio.to_thread(reload, address, 10, admin)
        assert (done.model, done.policy) == (engines[0].info.digest, "mlcommons")
        with pytest.raises(PermissionDenied):
            async with AsyncGuardClient(address, api_key=admin) as client:
                await client.moderate(HELLO)
    async with serve(reopen=lambda: next(opened)) as served:
        with pytest.raises(ServiceError, match="it asks for no API keys; send its process SIGHUP"):
            await asyncio.to_thread(reload, served.running.address, 10, admin)


def test_sighup_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def admin_reload(server: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["admin", "reload", "--server", server])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    policy, keys, config = tmp_path / "own.yaml", tmp_path / "keys.yaml", tmp_path / "serve.yaml"
    admin, app = keys_file(keys, "admin", "moderate")
    policy.write_text(POLICY.format(1))
    settings = {"model": "fake", "policy": str(policy), "api_keys": str(keys), "logs": "json"}
    config.write_text(json.dumps(settings))
    with (
        started(tmp_path / "stderr", command=[*SERVE, "--config", str(config), "--port", "0"]) as process,
        GuardClient(process.address, api_key=app) as client,
    ):

        def version() -> str:
            return client.moderate(HELLO).policy

        digests = [version()]
        policy.write_text(POLICY.format(2))
        process.popen.send_signal(signal.SIGHUP)
        while version() == digests[0]:
            time.sleep(0.01)
        digests.append(version())
        monkeypatch.setenv("GUARD_API_KEY", admin)
        policy.write_text("kumquat: 1")
        code, said = admin_reload(process.address)
        assert (code, "the model that was loaded before goes on" in said) == (3, True)
        assert version() == digests[1]
        policy.write_text(POLICY.format(3))
        config.write_text(json.dumps(settings | {"rest_port": 0}))
        code, said = admin_reload(process.address)
        assert (code, said.startswith(f"{process.address}: model ")) == (0, True)
        assert version() not in digests
        process.popen.terminate()
        assert process.popen.wait(20) == 0
    lines = [json.loads(line) for line in (tmp_path / "stderr").read_text().splitlines()]
    messages = [line["message"] for line in lines if line["logger"] == "guard.serve"]
    assert [message.partition(":")[0] for message in messages] == [
        "reloaded",
        "reload failed, the model that was loaded before goes on",
        "changed settings that take effect after a restart",
        "reloaded",
    ]
    assert messages[2].endswith(": rest_port")
