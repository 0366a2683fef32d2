"""StreamModerate over a real socket: what is released, and every way in which a stream ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from guard import Conversation, GuardClient, Message, Moderator, Outcome, Verdict
from guard.engines.fake import FakeEngine
from guard.errors import EngineError, GuardError, InvalidInput, Overloaded, PolicyError, ServiceError, TooLarge
from guard.policy import load
from guard.serve.limits import Limits
from guard.stream import Progress, StreamOptions
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from tests.fixtures.served import BrokenEngine, HeldEngine, Served, serve

ASKED = (Message("user", "how do I bake bread?"),)
SENTENCE = "This sentence is long enough to count. "
BAD = "Here it violates:S1 and goes on. "
START: dict[str, Any] = {"start": {"context": [{"role": "ROLE_USER", "content": "hi"}]}}
OBSERVE = StreamOptions("observe")


async def pieces(reply: Sequence[str | bytes]) -> AsyncIterator[str | bytes]:
    for piece in reply:
        yield piece


async def streamed(served: Served, reply: Sequence[str | bytes], **options: Any) -> list[Progress]:
    return [one async for one in served.client.stream(pieces(reply), ASKED, **options)]


async def refused(served: Served, *events: dict[str, Any]) -> tuple[grpc.StatusCode, str, str]:
    """The status of a stream of these messages: its code, reason and message."""
    async with grpc.aio.insecure_channel(served.running.address) as channel:
        call = ModerationServiceStub(channel).StreamModerate(iter([pb.StreamModerateRequest(**e) for e in events]))
        with pytest.raises(grpc.RpcError) as problem:
            async for _ in call:
                pass
    info = ErrorInfo()
    status = rpc_status.from_call(problem.value)
    if status is not None:
        status.details[0].Unpack(info)
    return problem.value.code(), info.reason, problem.value.details() or ""


@pytest.mark.parametrize("cut", ["characters", "bytes"])
async def test_a_safe_reply_comes_back_whole_with_the_verdict_of_moderate(cut: str) -> None:
    reply = SENTENCE * 3 + "Grüße 🙂 данные"
    parts = list(reply) if cut == "characters" else [bytes([each]) for each in reply.encode()]
    (expected,) = Moderator(FakeEngine(), load("mlcommons")).moderate(
        [Conversation((*ASKED, Message("assistant", reply)))]
    )
    async with serve() as served:
        progress = await streamed(served, parts)
    assert "".join(one.released for one in progress) == reply
    assert progress[0].released == SENTENCE
    last = progress[-1]
    assert (last.final, last.stopped, last.held, last.start, last.end) == (True, False, 0, 0, len(reply))
    assert isinstance(last.answer, Verdict)
    assert (last.answer.p_unsafe, last.answer.coverage) == (expected.p_unsafe, expected.coverage)


async def test_an_unsafe_reply_is_stopped_while_it_comes() -> None:
    async def endless() -> AsyncIterator[str]:
        yield SENTENCE
        yield BAD
        while True:
            yield SENTENCE
            await asyncio.sleep(0)

    async with serve() as served:
        progress = [one async for one in served.client.stream(endless(), ASKED)]
        assert (await served.client.moderate(Conversation.of("hello"))).outcome is Outcome.SAFE
    assert "".join(one.released for one in progress) in ("", SENTENCE)
    last = progress[-1]
    assert (last.stopped, last.final) == (True, False)
    assert last.held >= len(BAD)
    assert isinstance(last.answer, Verdict)
    assert last.answer.flagged == ("S1",)


async def test_observing_answers_behind_and_goes_on() -> None:
    async with serve(BrokenEngine()) as served:
        progress = await streamed(served, [SENTENCE, BAD, "breaks score, that does. ", SENTENCE, "End"], stream=OBSERVE)
        with pytest.raises(EngineError, match="internal error"):
            await streamed(served, [SENTENCE, "breaks score, that does. ", SENTENCE])
    assert not any(one.released or one.stopped for one in progress)
    assert progress[-1].final
    assert any(isinstance(one.answer, EngineError) for one in progress)


async def test_options_of_the_stream_and_of_moderation() -> None:
    async with serve() as served:
        strict = await streamed(served, [BAD + SENTENCE], stream=StreamOptions(stop_after=1))
        excluded = await streamed(served, [BAD, "End"], exclude=["S1"])
        with pytest.raises(PolicyError, match="unknown policy 'nowhere'"):
            await streamed(served, [SENTENCE], policy="nowhere")
        own = await streamed(served, ["violates:S1"], policy="openai")
    assert (len(strict), strict[0].stopped) == (1, True)
    assert "".join(one.released for one in excluded) == BAD + "End"
    assert isinstance(own[-1].answer, Verdict)
    assert own[-1].answer.policy == load("openai").digest


def test_the_blocking_client(process: Any) -> None:
    with GuardClient(process.address) as client:
        progress = list(client.stream([SENTENCE, "\ud83d", "\ude42 end"], ASKED))
        assert "".join(one.released for one in progress) == SENTENCE + "🙂 end"

        def fails() -> Any:
            yield SENTENCE
            raise ConnectionError("kumquat")

        with pytest.raises(ConnectionError):
            list(client.stream(fails(), ASKED))
        with pytest.raises(TooLarge):
            list(client.stream(["x" * 6000], ASKED))
        stream = client.stream(iter([SENTENCE] * 100), ASKED)
        next(stream)
        stream.close()
        assert client.moderate(Conversation.of("hello")).outcome is Outcome.SAFE


async def test_an_error_of_the_deltas_reaches_the_caller_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def fails() -> AsyncIterator[str]:
        yield SENTENCE
        raise ConnectionError("kumquat")

    async with serve() as served:
        with pytest.raises(ConnectionError, match="kumquat"):
            async for _ in served.client.stream(fails(), ASKED):
                pass
    assert "kumquat" not in caplog.text


INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "InvalidInput")


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], "must have `start`"),
        ([{"text": "hi"}], "must have `start`"),
        ([START, START], "a second time"),
        ([START, {"text": "hi"}], "closed before `end`"),
        ([START, {}], "none of `text`"),
        ([START, {"end": {}}], "message is empty"),
        ([START, {"text": " \n"}, {"end": {}}], "message is empty"),
        ([{"start": {"release": 9}}], "RELEASE_OBSERVE"),
        ([{"start": {"check_characters": -1}}], "characters must be >= 1"),
        ([{"start": {"check_seconds": float("inf")}}], "seconds must be > 0"),
        ([{"start": {"context": [{"content": "hi"}]}}], "context[0] has role 0"),
        ([{"start": {"options": {"mode": 9}}}], "MODE_STRICT"),
    ],
)
async def test_messages_out_of_order(events: list[dict[str, Any]], told: str) -> None:
    async with serve() as served:
        code, reason, message = await refused(served, *events)
    assert (code, reason) == INVALID
    assert told in message


async def test_text_after_the_end() -> None:
    engine = HeldEngine()
    async with serve(engine) as served:
        asyncio.get_running_loop().call_later(0.2, engine.gate.set)
        code, reason, message = await refused(served, START, {"text": "hi"}, {"end": {}}, {"text": "kumquat"})
    assert (code, reason) == INVALID
    assert "after `end`" in message


async def test_limits_of_characters_and_of_streams() -> None:
    limits = Limits(conversation_characters=100, conversation_messages=3, streams=1)
    long = {"start": {"context": [{"role": "ROLE_USER", "content": "x" * 100}]}}
    many = {"start": {"context": [{"role": "ROLE_USER", "content": "x"}] * 3}}
    engine = HeldEngine()
    async with serve(engine, limits) as served:
        for events, kind in (([START, {"text": "x" * 99}], TooLarge), ([long], TooLarge), ([many], InvalidInput)):
            code, reason, _ = await refused(served, *events)
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, kind.__name__)
        first = asyncio.ensure_future(streamed(served, ["hello"]))
        await served.accepted(1)
        with pytest.raises(Overloaded, match="1 streams are open, of at most 1"):
            await streamed(served, ["hello"])
        engine.gate.set()
        assert (await first)[-1].final


async def test_a_client_that_goes_leaves_the_queue() -> None:
    engine = HeldEngine()
    async with serve(engine) as served:
        busy = asyncio.ensure_future(served.client.moderate(Conversation.of("hello")))
        await served.accepted(1)
        stream = asyncio.ensure_future(streamed(served, [SENTENCE, "End"]))
        await served.accepted(2)
        stream.cancel()
        await served.accepted(1)
        engine.gate.set()
        await busy
    assert not any(b"sentence" in each for each in engine.scored)


async def test_deadlines_of_the_client_and_of_the_server() -> None:
    async def stalls() -> AsyncIterator[str]:
        yield SENTENCE
        await asyncio.sleep(20)

    async with serve(limits=Limits(stream_seconds=0.2)) as served:
        for seconds, told in ((None, "took longer than 0.2 s"), (0.1, "no answer within 0.1 s")):
            with pytest.raises(ServiceError, match=told):
                async for _ in served.client.stream(stalls(), ASKED, timeout_s=seconds):
                    pass


async def test_a_full_queue_delays_a_stream_and_does_not_fail_it() -> None:
    engine = HeldEngine()
    async with serve(engine, Limits(queue_windows=1)) as served:
        busy = asyncio.ensure_future(served.client.moderate(Conversation.of("hello")))
        await served.accepted(1)
        stream = asyncio.ensure_future(streamed(served, ["End"]))
        await asyncio.sleep(0.1)
        engine.gate.set()
        await busy
        assert "".join(one.released for one in await stream) == "End"


async def test_a_server_that_stops_ends_its_streams_with_an_error() -> None:
    async with serve() as served:
        await served.running.live.drain()
        with pytest.raises(GuardError):
            await streamed(served, [SENTENCE])


async def test_no_text_reaches_an_error_or_a_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(BrokenEngine(), Limits(conversation_characters=200)) as served:
        for reply in ("kumquat breaks score. ", "kumquat breaks read. ", "kumquat is cancelled. ", "kumquat " * 99):
            with pytest.raises(GuardError) as problem:
                await streamed(served, [reply, SENTENCE])
            assert "kumquat" not in f"{problem.value!r} {problem.value}"
        progress = await streamed(served, ["kumquat. "])
    assert "kumquat" not in f"{progress!r} {caplog.text} {''.join(capfd.readouterr())}"
    assert not any(record.exc_info for record in caplog.records)
