"""Hostile surroundings: what `hardened` insists on, what scores tell, and floods of connections and resets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from guard import AsyncGuardClient, Conversation, Outcome, Verdict, document
from guard.conversation import Target
from guard.errors import ConfigError, InvalidInput, Overloaded
from guard.policy import load
from guard.serve.config import Given, settings
from guard.serve.core.disclosure import disclosed
from guard.serve.core.keys import new_key
from guard.stream import StreamOptions
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Coverage
from tests.fixtures import http2
from tests.fixtures.served import HeldEngine, serve
from tests.serve.test_monitor import Scripted

HELLO = Conversation.of("hello")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "hardened: api_keys is missing"),
        ({"api_keys": "keys.yaml", "host": "0.0.0.0"}, "host 0.0.0.0 can be reached from other machines without TLS"),
        ({"api_keys": "keys.yaml", "host": "guard.example"}, "set tls.certificate and tls.key, or host: 127.0.0.1"),
        ({"api_keys": "keys.yaml"}, None),
        ({"api_keys": "keys.yaml", "host": "::1"}, None),
        ({"api_keys": "keys.yaml", "host": "0.0.0.0", "tls.certificate": "a", "tls.key": "b"}, None),
    ],
)
def test_what_hardened_insists_on(given: dict[str, str], said: str | None) -> None:
    every = [Given(name, name, value) for name, value in {"hardened": True, **given}.items()]
    if said is None:
        assert settings(None, every).hardened
    else:
        with pytest.raises(ConfigError, match=re.escape(said)):
            settings(None, every)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tls.certificate": "a"}, "tls.key is missing"),
        ({"tls.key": "a"}, "tls.certificate is missing"),
        ({"tls.client_ca": "a"}, "tls.client_ca needs tls.certificate"),
    ],
)
def test_settings_that_need_one_another(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        settings(None, [Given(name, name, value) for name, value in given.items()])


async def reflects(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        try:
            return [each async for each in stub.ServerReflectionInfo(asked)] != []
        except grpc.aio.AioRpcError:
            return False


async def test_a_hardened_server_has_no_reflection(tmp_path: Path) -> None:
    clear, key = new_key("app", ("moderate",))
    file = tmp_path / "keys.yaml"
    file.write_text(document.dump({"keys": [{"name": "app", "sha256": key.sha256}]}))
    async with serve(api_keys=file, api_key=clear, hardened=True) as served:
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        assert not await reflects(served.running.address)
    async with serve(reflection=False) as served:
        assert not await reflects(served.running.address)
    async with serve() as served:
        assert await reflects(served.running.address)


@pytest.mark.parametrize("scores", ["exact", "rounded", "labels"])
async def test_scores_on_both_listeners(scores: str) -> None:
    bad = Conversation.of("so violates:S4")
    async with serve(rest=True, scores=scores) as served:
        verdicts = [await served.client.moderate(each) for each in (HELLO, bad)]
        async with httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20) as http:
            posted = (await http.post("/v1/check", json={"prompt": "hello"})).json()
            classified = (await http.post("/classify", json={"input": "so violates:S4"})).json()
    assert [each.outcome for each in verdicts] == [Outcome.SAFE, Outcome.UNSAFE]
    assert verdicts[1].flagged == ("S4",)
    assert classified["data"][0]["label"] == "unsafe"
    told = {p for each in verdicts for p in (each.p_unsafe, *each.categories.values())}
    told |= {*posted["categories"].values(), *classified["data"][0]["probs"]}
    if scores == "labels":
        assert told == {0.0, 1.0}
    elif scores == "rounded":
        assert all(round(p, 1) == pytest.approx(p) for p in told)
    else:
        assert any(round(p, 1) != p for p in told)


@pytest.mark.parametrize("scores", ["exact", "rounded", "labels"])
async def test_streams_are_stopped_by_exact_scores_whatever_is_told(scores: str) -> None:
    """Unsafe by a little: as a label that is 1, and would stop a stream at once."""

    async def deltas() -> AsyncIterator[str]:
        for _ in range(9):
            yield "A sentence that is long enough. "

    odds = {**dict.fromkeys(load("mlcommons").codes, -20.0), "S1": 0.2}
    async with serve(Scripted(odds), scores=scores) as served:
        progress = [one async for one in served.client.stream(deltas())]
        told = {one.answer.p_unsafe for one in progress if isinstance(one.answer, Verdict)}
        assert len(progress) == 3
        assert progress[-1].stopped
        if scores == "exact":
            assert list(told) == [pytest.approx(0.55, abs=0.001)]
        else:
            assert told == ({1.0} if scores == "labels" else {0.5, 0.6} & told)
            with pytest.raises(InvalidInput, match="sure_log_odds must be 2 on this server"):
                [one async for one in served.client.stream(deltas(), stream=StreamOptions(sure=0.1))]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.sampled_from(Outcome))
def test_labels_tell_no_more_than_the_outcome(scores: list[float], outcome: Outcome) -> None:
    """Two verdicts that differ in scores alone become one."""
    flagged = ("X1",) if outcome is Outcome.UNSAFE else ()
    coverage = Coverage(1, 1, 1, 0, 1)
    told = {
        repr(
            disclosed(
                Verdict(outcome, Target.PROMPT, p, 0.3, {"X1": p, "X2": p / 2}, flagged, None, coverage, "p", "m"),
                "labels",
            )
        )
        for p in scores
    }
    assert len(told) == 1


def accepted(address: str, held: contextlib.ExitStack) -> bool:
    """Whether a new connection, held open from then on, is answered."""
    try:
        return held.enter_context(http2.connection(address)).recv(1) != b""
    except ConnectionError:
        return False


async def test_connections_beyond_the_bound_are_closed_and_others_served() -> None:
    async with serve(rest=True, connections=8) as served:
        grpc_at, url = served.running.address, str(served.running.rest_url)
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        with contextlib.ExitStack() as held:
            taken = [await asyncio.to_thread(accepted, grpc_at, held) for _ in range(12)]
            assert 4 <= sum(taken) <= 8
            host, _, port = str(served.running.rest_address).rpartition(":")
            for _ in range(12):
                held.enter_context(socket.create_connection((host, int(port)), 5))
            await asyncio.sleep(0.1)
            assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                assert (await http.get(f"{url}/healthz")).status_code == 503
        async with asyncio.timeout(10):
            with contextlib.ExitStack() as held:
                while not await asyncio.to_thread(accepted, grpc_at, held):
                    await asyncio.sleep(0.05)


def end_of(address: str) -> float:
    """Seconds until the server tells an open connection to go away."""
    began = time.monotonic()
    with http2.connection(address) as raw:
        for kind, _, _ in http2.frames(raw):
            if kind == http2.GOAWAY:
                return time.monotonic() - began
    raise AssertionError("closed without a word")


async def test_connections_end_by_age() -> None:
    async with serve(connection_age_seconds=0.2) as served:
        assert 0.1 < await asyncio.to_thread(end_of, served.running.address) < 8
        for _ in range(3):  # over new connections where the old one has ended
            await asyncio.sleep(0.15)
            assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE


async def test_a_flood_of_resets_leaves_other_callers_alone() -> None:
    """HTTP/2 rapid reset (CVE-2023-44487): calls that are opened and reset at once, as fast as a socket takes them."""
    async with serve(streams=64) as served:
        stop = threading.Event()
        flood = asyncio.create_task(asyncio.to_thread(resets, served.running.address, stop))
        try:
            for index in range(20):
                verdict = await served.client.moderate(Conversation.of(f"text {index}"))
                assert verdict.outcome is Outcome.SAFE
        finally:
            stop.set()
        assert await flood > 100
        assert served.running.service.batcher.items == 0


def resets(address: str, stop: threading.Event) -> int:
    """Opens calls and resets them until `stop`, over new connections where the server closes one; how many."""
    count = 0
    while not stop.is_set():
        with contextlib.suppress(OSError), http2.connection(address) as raw:
            for stream in range(1, 20_001, 2):
                if stop.is_set():
                    break
                opened = http2.request(b"/guard.v1.ModerationService/Moderate", stream=stream)
                raw.sendall(opened + http2.frame(http2.RST_STREAM, stream=stream, payload=(8).to_bytes(4)))
                count += 1
    return count


async def test_answers_that_nobody_reads_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    (slow, key), (other, another) = new_key("slow", ("moderate",)), new_key("other", ("moderate",))
    file.write_text(document.dump({"keys": [{"name": each.name, "sha256": each.sha256} for each in (key, another)]}))
    async with (
        serve(api_keys=file, api_key=other, unread_bytes=100_000) as served,
        AsyncGuardClient(served.running.address, api_key=slow) as itself,
    ):
        with http2.connection(served.running.address, window=0) as raw:
            assert 2 < await asyncio.to_thread(answers_until_refused, raw, slow.encode()) < 100
            with pytest.raises(Overloaded, match="bytes of answers wait to be read, of at most 100000"):
                await itself.moderate(HELLO)
            assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(Overloaded):
                    assert (await itself.moderate(HELLO)).outcome is Outcome.SAFE
                    break
                await asyncio.sleep(0.01)


async def test_what_a_stream_sends_and_the_server_does_not_read_is_bounded() -> None:
    """A stream's window would otherwise grow with its sender's rate, to megabytes that lie in the server."""
    engine, streams, sent = HeldEngine(), 4, 0
    text = pb.StreamModerateRequest(text="This sentence is long enough to be judged. " * 380)
    async with serve(engine) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        method = channel.stream_stream(
            "/guard.v1.ModerationService/StreamModerate",
            request_serializer=pb.StreamModerateRequest.SerializeToString,
            response_deserializer=pb.StreamModerateResponse.FromString,
        )

        async def write() -> None:
            nonlocal sent
            call = method()
            await call.write(pb.StreamModerateRequest(start=pb.StreamStart()))
            while True:
                await call.write(text)
                sent += text.ByteSize()

        writing = [asyncio.create_task(write()) for _ in range(streams)]
        before = -1
        while sent > before:
            before = sent
            await asyncio.sleep(0.5)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        engine.gate.set()
    assert 0 < sent <= streams * (256 << 10)


def answers_until_refused(raw: socket.socket, key: bytes) -> int:
    """How many calls are answered on a connection that takes no byte of an answer, one after the other."""
    frames = iter(http2.frames(raw))
    for count in range(1000):
        path, credentials = b"/guard.v1.ModerationService/GetInfo", (b"authorization", b"Bearer " + key)
        raw.sendall(http2.request(path, credentials, stream=2 * count + 1, message=b""))
        if next(flags for kind, flags, _ in frames if kind == http2.HEADERS) & http2.END_STREAM:  # a status alone
            return count
    raise AssertionError("never refused")
