"""Both clients against real sockets: values and errors, retries, chunks, and the fail-closed rule."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import AsyncGuardClient, Conversation, GuardClient, Moderator, Outcome, Verdict
from guard.batcher import Batcher, Slot
from guard.conversation import Target
from guard.engines.fake import FakeEngine
from guard.errors import Closed, ConfigError, EngineError, InvalidInput, PolicyError, ServiceError
from guard.policy import load
from guard.prompts.window import Score, Window
from guard.serve.client import CHUNK_BYTES, is_blocked
from guard.serve.grpc import messages
from guard.serve.grpc.servicer import SERVICE, Servicer, handlers
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Coverage, Timings
from tests.fixtures.served import BrokenEngine, HeldEngine, serve

HELLO = Conversation.of("how do I bake bread?")
Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest) -> Call:
    """call(address, method, …): the method of a fresh client of either kind."""

    def blocking(address: str, method: str, timeout_s: float, *values: object, **options: object) -> object:
        with GuardClient(address, timeout_s) as client:
            return getattr(client, method)(*values, **options)

    async def either(address: str, method: str, *values: Any, timeout_s: float = 20, **options: Any) -> Any:
        if request.param == "blocking":
            return await asyncio.to_thread(blocking, address, method, timeout_s, *values, **options)
        async with AsyncGuardClient(address, timeout_s) as client:
            return await getattr(client, method)(*values, **options)

    return either


@asynccontextmanager
async def scripted(method: str, *answers: grpc.StatusCode | bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn, the last one ever after; its address, and the requests it got."""
    got: list[bytes] = []

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        got.append(request)
        what = answers[min(len(got), len(answers)) - 1]
        if isinstance(what, bytes):
            return what
        await context.abort(what)

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", got
    finally:
        await server.stop(None)


def answer_of(verdict: Verdict) -> bytes:
    return pb.ModerateResponse(verdict=messages.verdict_to_proto(verdict)).SerializeToString()


SAFE = Verdict(Outcome.SAFE, Target.PROMPT, 0.1, 0.5, {"S1": 0.1}, (), None, Coverage(1, 1, 1, 0, 1), "p", "m")


async def test_all_methods_of_both_clients(call: Call) -> None:
    async with serve() as served:
        address = served.running.address
        verdict = await call(address, "moderate", HELLO, "openai", exclude=["hate"], mode="strict")
        assert verdict.policy == load("openai").without(["hate"]).digest
        answers = await call(address, "moderate_batch", [HELLO, HELLO], load("minimal"))
        assert [answer.policy for answer in answers] == [load("minimal").digest] * 2
        assert await call(address, "moderate_batch", []) == []
        info = await call(address, "info")
        assert (info.model, info.limits) == (FakeEngine.info.digest, Limits())


async def test_errors_of_the_server_are_raised_as_they_were(call: Call) -> None:
    async with serve(BrokenEngine()) as served:
        address = served.running.address
        for text, options, kind in (
            ("x" * 300_000, {}, InvalidInput),
            ("hi", {"policy": "nowhere"}, PolicyError),
            ("breaks score", {}, EngineError),
        ):
            with pytest.raises(kind) as raised:
                await call(address, "moderate", Conversation.of(text), **options)
            assert type(raised.value) is kind
            (answer,) = await call(address, "moderate_batch", [Conversation.of(text)], **options)
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
    answers = await call(address, "moderate_batch", [HELLO, HELLO])
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
    class Reluctant(Batcher[Window, Score]):
        asked = 0

        def reserve(self, items: int, tokens: int) -> AbstractContextManager[Slot[Window, Score]]:
            self.asked += 1
            if self.asked < 3:
                raise Closed("shutting down")
            return super().reserve(items, tokens)

    moderator = Moderator(FakeEngine(), load("minimal"))
    with ThreadPoolExecutor(1) as readers:
        async with Reluctant(moderator.engine.score, lambda window: len(window.ids)) as batcher:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((handlers(Servicer(moderator, batcher, Limits(), readers)),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            try:
                assert (await call(f"127.0.0.1:{port}", "moderate", HELLO)).outcome is Outcome.SAFE
                assert batcher.asked == 3
                await batcher.close()
                with pytest.raises(Closed, match="shutting down or has stopped"):
                    await call(f"127.0.0.1:{port}", "moderate", HELLO)
                assert batcher.asked == 6
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
            (answer,) = await call(address, "moderate_batch", [HELLO])
            assert type(answer) is ServiceError
    async with scripted("BatchModerate", short.SerializeToString()) as (address, _):
        answers = await call(address, "moderate_batch", [HELLO, HELLO])
        assert [type(answer) for answer in answers] == [ServiceError] * 2


async def test_batches_are_cut_by_bytes_and_by_count_and_keep_their_order(call: Call) -> None:
    texts = [f"{index} " + "x" * (index * 977 % 5_000) for index in range(600)]
    texts[300] = "300 " + "x" * 250_000
    texts[301] = "301 " + "é" * (3 << 20)
    async with serve() as served:
        answers = await call(served.running.address, "moderate_batch", [Conversation.of(text) for text in texts])
    assert len(answers) == 600
    assert isinstance(answers[301], InvalidInput)
    for text, answer in zip(texts, answers, strict=True):
        if answer is not answers[301]:
            assert answer.coverage.tokens_total == -(-len(text) // 4)


async def test_no_call_is_larger_than_a_chunk() -> None:
    async with scripted("BatchModerate", b"") as (address, got), AsyncGuardClient(address) as client:
        await client.moderate_batch([Conversation.of("y" * 40_000)] * 20 + [Conversation.of("z")] * 600)
    sizes = [(len(data), len(pb.BatchModerateRequest.FromString(data).conversations)) for data in got]
    assert sum(count for _, count in sizes) == 620
    assert all(size <= CHUNK_BYTES + 1024 and count <= Limits().batch_conversations for size, count in sizes)


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
