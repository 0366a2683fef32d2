"""Both clients against real sockets: values and errors, retries, chunks, and the fail-closed rule."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import AsyncGuardClient, Conversation, GuardClient, Moderator, Outcome, Verdict
from guard.conversation import Target
from guard.engines.fake import FakeEngine
from guard.errors import (
    Closed,
    ConfigError,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PolicyError,
    ServiceError,
    TooLarge,
    UnknownPolicy,
)
from guard.policy import load
from guard.serve.client import is_blocked
from guard.serve.client.channel import is_loopback
from guard.serve.client.session import CHUNK_BYTES, chunks
from guard.serve.core.info import ServiceInfo
from guard.serve.core.live import Live
from guard.serve.core.request import Request
from guard.serve.core.service import Answer, Service
from guard.serve.grpc import messages
from guard.serve.grpc.call import Shared
from guard.serve.grpc.servicer import SERVICE, handlers
from guard.serve.grpc.status import to_status
from guard.serve.grpc.unread import Unread
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Coverage, Timings
from tests.fixtures.served import BrokenEngine, HeldEngine, serve

HELLO = Conversation.of("how do I bake bread?")
Call = Callable[..., Awaitable[Any]]
Script = grpc.StatusCode | bytes | GuardError


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest) -> Call:
    """call(address, method, …): the method of a fresh client of either kind."""

    def blocking(address: str, method: str, timeout_s: float, *values: object, **options: object) -> object:
        with GuardClient(address, timeout_s) as client:
            return client.info if method == "info" else getattr(client, method)(*values, **options)

    async def either(address: str, method: str, *values: Any, timeout_s: float = 60, **options: Any) -> Any:
        if request.param == "blocking":
            return await asyncio.to_thread(blocking, address, method, timeout_s, *values, **options)
        async with AsyncGuardClient(address, timeout_s) as client:
            return await getattr(client, method)(*values, **options)

    return either


@asynccontextmanager
async def scripted(
    method: str, *answers: grpc.StatusCode | bytes | Exception
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn, the last one ever after; its address, and the requests it got.

    To GetInfo it answers as any other.
    """
    got: list[bytes] = []

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        got.append(request)
        what = answers[min(len(got), len(answers)) - 1]
        if isinstance(what, bytes):
            return what
        if isinstance(what, GuardError):
            await context.abort(*rpc_status.to_status(to_status(what)))
        await context.abort(what)

    async def info(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return messages.info_to_proto(INFO).SerializeToString()

    server = grpc.aio.server()
    calls = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in (("GetInfo", info), (method, answer))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, calls),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", got
    finally:
        await server.stop(None)


def answer_of(verdict: Verdict) -> bytes:
    return pb.ModerateResponse(verdict=messages.verdict_to_proto(verdict)).SerializeToString()


MINIMAL = Moderator(FakeEngine(), load("minimal"))
INFO = ServiceInfo("m", "fake", MINIMAL.policy, "strict", MINIMAL.info.thresholds, "0", Limits())
SAFE = Verdict(Outcome.SAFE, Target.PROMPT, 0.1, 0.5, {"S1": 0.1}, (), None, Coverage(1, 1, 1, 0, 1), "p", "m")


async def test_all_methods_of_both_clients(call: Call) -> None:
    async with serve() as served:
        address = served.running.address
        verdict = await call(address, "moderate", HELLO, "openai", exclude=["hate"], mode="strict")
        assert verdict.policy == load("openai").without(["hate"]).digest
        answers = await call(address, "moderate_each", [HELLO, HELLO], load("minimal"))
        assert [answer.policy for answer in answers] == [load("minimal").digest] * 2
        assert await call(address, "moderate_each", []) == []
        info = await call(address, "info")
        assert (info.model, info.limits) == (FakeEngine.info.digest, Limits())


async def test_errors_of_the_server_are_raised_as_they_were(call: Call) -> None:
    async with serve(BrokenEngine()) as served:
        address = served.running.address
        for text, options, kind in (
            ("x" * 300_000, {}, InvalidInput),
            ("hi", {"policy": "nowhere"}, UnknownPolicy),
            ("breaks score", {}, EngineError),
        ):
            with pytest.raises(kind) as raised:
                await call(address, "moderate", Conversation.of(text), **options)
            assert type(raised.value) is kind
            if kind is UnknownPolicy:  # of the options: no conversation has an answer
                with pytest.raises(PolicyError):
                    await call(address, "moderate_each", [Conversation.of(text)], **options)
                continue
            (answer,) = await call(address, "moderate_each", [Conversation.of(text)], **options)
            assert type(answer) is kind
        with pytest.raises(ConfigError, match="strict, balanced, permissive"):
            await call(address, "moderate", HELLO, mode="lenient")


async def test_no_server_and_no_answer_in_time(call: Call) -> None:
    engine = HeldEngine()
    async with serve(engine) as served:
        address = served.running.address
        with pytest.raises(ServiceError, match=r"no answer within|no verdict before"):
            await call(address, "moderate", HELLO, timeout_s=0.05)
        engine.gate.set()
    answers = await call(address, "moderate_each", [HELLO, HELLO])
    assert [type(answer) for answer in answers] == [ServiceError] * 2
    assert re.fullmatch(rf"{address}: cannot be reached: .+; is `guard serve` running there\?", str(answers[0]))


async def test_only_unavailable_is_tried_again_and_twice(call: Call) -> None:
    codes = grpc.StatusCode
    async with scripted("Moderate", codes.UNAVAILABLE, codes.UNAVAILABLE, answer_of(SAFE)) as (address, got):
        assert await call(address, "moderate", HELLO) == SAFE
        assert len(got) == 3
    for code in (codes.RESOURCE_EXHAUSTED, codes.INTERNAL, codes.INVALID_ARGUMENT, codes.CANCELLED, codes.ABORTED):
        async with scripted("Moderate", code) as (address, got):
            with pytest.raises(ServiceError, match=code.name):
                await call(address, "moderate", HELLO)
            assert len(got) == 1


async def test_a_server_that_is_shutting_down_is_tried_again(call: Call) -> None:
    class Reluctant(Service):
        asked = 0

        async def judge(self, request: Request) -> list[Answer]:
            self.asked += 1
            if self.asked < 3:
                raise Closed("shutting down")
            return await super().judge(request)

    async with Reluctant(MINIMAL, Limits()) as service:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers(Shared(Live(service), None, Unread(1 << 20))),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            assert (await call(f"127.0.0.1:{port}", "moderate", HELLO)).outcome is Outcome.SAFE
            assert service.asked == 3
            await service.drain()
            with pytest.raises(Closed, match="shutting down or has stopped"):
                await call(f"127.0.0.1:{port}", "moderate", HELLO)
            assert service.asked == 6
        finally:
            await server.stop(None)


async def test_an_answer_that_cannot_be_understood_is_never_safe(call: Call) -> None:
    unknown = messages.verdict_to_proto(SAFE)
    unknown.outcome = 17
    short = pb.BatchModerateResponse(items=[pb.BatchItem(verdict=messages.verdict_to_proto(SAFE))])
    for response in (b"", pb.ModerateResponse(verdict=unknown).SerializeToString()):
        async with scripted("Moderate", response) as (address, _):
            with pytest.raises(ServiceError, match="does not know"):
                await call(address, "moderate", HELLO)
    for item in (pb.BatchItem(), pb.BatchItem(verdict=unknown)):
        response = pb.BatchModerateResponse(items=[item]).SerializeToString()
        async with scripted("BatchModerate", response) as (address, _):
            (answer,) = await call(address, "moderate_each", [HELLO])
            assert type(answer) is ServiceError
    async with scripted("BatchModerate", short.SerializeToString()) as (address, _):
        answers = await call(address, "moderate_each", [HELLO, HELLO])
        assert [type(answer) for answer in answers] == [ServiceError] * 2


async def test_batches_are_cut_by_what_the_server_takes_and_keep_their_order(call: Call) -> None:
    texts = [f"{index} " + "x " * (index * 97 % 150) for index in range(100)]
    texts[40] = "40 " + "é" * 9_000
    texts[50] = "50 " + "a long one " * 400
    limits = Limits(request_bytes=10_000, batch_conversations=7, queue_windows=30)
    async with serve(limits=limits) as served:
        answers = await call(served.running.address, "moderate_each", [Conversation.of(text) for text in texts])
    assert [type(answers[index]) for index in (40, 50)] == [TooLarge, Verdict]
    for text, answer in zip(texts, answers, strict=True):
        if answer is not answers[40]:
            assert answer.coverage.tokens_total == -(-len(text) // 4)


async def test_a_queue_smaller_than_a_batch_fails_no_row(call: Call) -> None:
    async with serve(limits=Limits(queue_windows=10)) as served:
        short = [Conversation.of(f"hello number {index}") for index in range(60)]
        assert all(isinstance(one, Verdict) for one in await call(served.running.address, "moderate_each", short))
        # Each of these needs four windows: a chunk that fits by its count does not fit by them.
        texts = [" ".join(f"{index} {word}" for word in range(words)) for index, words in enumerate([120] * 6 + [900])]
        answers = await call(served.running.address, "moderate_each", list(map(Conversation.of, texts)))
    assert [type(answer) for answer in answers] == [Verdict] * 6 + [TooLarge]


async def test_a_batch_that_meets_a_full_queue_is_sent_again_when_the_server_says(call: Call) -> None:
    full = Overloaded("full", retry_after_s=0.01)
    item = pb.BatchItem(verdict=messages.verdict_to_proto(SAFE))
    answer = pb.BatchModerateResponse(items=[item, item]).SerializeToString()
    async with scripted("BatchModerate", full, full, answer) as (address, got):
        assert await call(address, "moderate_each", [HELLO, HELLO]) == [SAFE, SAFE]
    assert len(got) == 3
    async with scripted("BatchModerate", full) as (address, got):
        answers = await call(address, "moderate_each", [HELLO, HELLO], timeout_s=0.3)
        assert [type(answer) for answer in answers] == [Overloaded] * 2
        assert len(got) > 1
    async with scripted("Moderate", full) as (address, got):
        with pytest.raises(Overloaded) as refused:  # whoever waits for one verdict decides by himself
            await call(address, "moderate", HELLO)
        assert (refused.value.retry_after_s, len(got)) == (0.01, 1)


conversations = st.builds(
    lambda sizes: [pb.Conversation(messages=[pb.Message(role=1, content="x" * size)]) for size in sizes],
    st.lists(st.integers(0, 300) | st.integers(100_000, 150_000), max_size=40),
)
limits = st.builds(
    Limits,
    request_bytes=st.integers(1, 300_000),
    batch_conversations=st.integers(1, 20),
    queue_windows=st.integers(1, 50),
    queue_tokens=st.integers(1, 100_000),
)


@given(conversations, limits)
def test_chunks_keep_order_lose_nothing_and_leave_half_of_the_queue_to_others(
    conversations: list[pb.Conversation], limits: Limits
) -> None:
    cut = list(chunks(conversations, limits))
    assert [one for chunk in cut for one in chunk] == conversations
    for chunk in cut:
        assert chunk
        if len(chunk) > 1:
            assert len(chunk) <= min(limits.batch_conversations, limits.queue_windows / 2)
            size = sum(one.ByteSize() for one in chunk)
            assert size <= min(CHUNK_BYTES, limits.request_bytes / 2, limits.queue_tokens * 2)


async def test_the_server_is_asked_once_what_it_judges_by(call: Call) -> None:
    async with serve() as served:
        address = served.running.address
        with GuardClient(address, policy=load("minimal"), mode="strict") as client:
            info = await asyncio.to_thread(lambda: client.info)
            assert await asyncio.to_thread(lambda: client.info) is info
            assert (info.policy, info.mode, info.model) == (load("minimal"), "strict", FakeEngine.info.digest)
            assert info.thresholds == MINIMAL.info_of(load("minimal"), "strict").thresholds
            (verdict,) = await asyncio.to_thread(client.moderate_each, [HELLO])
            assert verdict.policy == load("minimal").digest
        async with AsyncGuardClient(address, policy="nowhere") as client:
            with pytest.raises(PolicyError, match="unknown policy 'nowhere'; known: "):
                await client.info()
            with pytest.raises(PolicyError):
                await client.moderate_each([HELLO])


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_no_proxy_lies_on_the_way_to_this_machine(
    call: Call, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with serve() as served:
        port = served.running.address.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost"):
            assert (await call(f"{host}:{port}", "moderate", HELLO)).outcome is Outcome.SAFE


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("dns:localhost:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv6:[::1]:50051", True),
        ("guard.example.org:50051", False),
        ("localhost.example.org:50051", False),
        ("127.0.0.1.example.org:50051", False),
        ("10.0.0.1:50051", False),
        ("[2001:db8::1]:50051", False),
        ("dns://127.0.0.1/guard.example.org:50051", False),
        ("xds:///localhost", False),
        ("", False),
    ],
)
def test_which_targets_are_this_machine(target: str, loopback: bool) -> None:
    assert is_loopback(target) is loopback


probabilities = st.floats(0, 1)
codes = st.from_regex(r"[A-Z][0-9]{1,3}", fullmatch=True)
counts = st.integers(0, 2**31 - 1)
verdicts = st.builds(
    Verdict,
    outcome=st.sampled_from(Outcome),
    target=st.sampled_from(Target),
    p_unsafe=probabilities,
    threshold=probabilities,
    categories=st.dictionaries(codes, probabilities),
    flagged=st.lists(codes).map(tuple),
    p_refusal=st.none() | probabilities,
    coverage=st.builds(Coverage, counts, counts, counts, counts, counts),
    policy=st.text(),
    model=st.text(),
    timings=st.builds(Timings, probabilities, probabilities, probabilities),
)


@settings(max_examples=25)
@given(verdicts)
def test_a_verdict_survives_the_wire(verdict: Verdict) -> None:
    data = messages.verdict_to_proto(verdict).SerializeToString()
    again = messages.verdict_from_proto(pb.Verdict.FromString(data))
    assert again == verdict
    assert list(again.categories) == list(verdict.categories)


def test_everything_but_safe_is_blocked() -> None:
    assert not is_blocked(SAFE)
    for outcome in (Outcome.UNSAFE, Outcome.INCOMPLETE):
        assert is_blocked(dataclasses.replace(SAFE, outcome=outcome))
    assert is_blocked(ServiceError("unreachable"))
    assert is_blocked(TimeoutError())
