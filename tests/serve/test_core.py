"""The service in plain values: what it bounds, in which thread it does what, and what callers are told of errors."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from guard import Category, Conversation, Moderator, Policy, Verdict
from guard.engines.fake import FakeEngine
from guard.errors import (
    BundleError,
    Closed,
    DeadlineExceeded,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PolicyError,
    ServiceError,
    TooLarge,
)
from guard.policy import dump, load
from guard.prompts.window import Score, Window
from guard.serve.core.errors import InternalError, public
from guard.serve.core.request import Options, PolicyText, Request
from guard.serve.core.service import Service
from guard.serve.limits import Limits
from tests.fixtures.served import HeldEngine

OWN = Policy("own", "1", "Own", (Category("X1", "One", "The first."), Category("X2", "Two", "The second.")))
HELLO = Conversation.of("how do I bake bread?")
LONG = Conversation.of("a long text " * 500)


class Noting(FakeEngine):
    """A FakeEngine that notes each call: its method, the thread, and what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, object]] = []

    def _note(self, method: str, what: object) -> None:
        self.calls.append((method, threading.current_thread().name.rpartition("_")[0], what))

    def tokenize(self, conversation: Conversation, policy: Policy):  # type: ignore[no-untyped-def]
        self._note("tokenize", policy.id)
        return super().tokenize(conversation, policy)

    def prepare(self, policy: Policy) -> None:
        self._note("prepare", policy.digest)

    def warm(self) -> None:
        self._note("warm", None)

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        self._note("score", [bytes(window.ids).decode() for window in windows])
        return super().score(windows)

    def of(self, method: str) -> list[tuple[str, object]]:
        return [(thread, what) for name, thread, what in self.calls if name == method]


def served(engine: FakeEngine | None = None, limits: Limits | None = None) -> Service:
    return Service(Moderator(engine or FakeEngine(), load("minimal")), limits or Limits())


async def test_equal_windows_of_a_request_are_scored_once() -> None:
    engine = Noting()
    async with served(engine) as service:
        answers = await service.judge(Request((HELLO, Conversation.of("hi"), HELLO, HELLO)))
    assert [type(answer) for answer in answers] == [Verdict] * 4
    assert sorted(text for _, texts in engine.of("score") for text in texts) == ["hi", "how do I bake bread?"]  # type: ignore[attr-defined]


async def test_a_policy_that_a_request_brings_is_prepared_off_the_engines_thread() -> None:
    engine = Noting()
    async with served(engine) as service:
        await service.judge(Request((HELLO,), Options(PolicyText(dump(OWN)), ("X1",))))
        await service.judge(Request((HELLO,), Options("openai")))
        await service.judge(Request((HELLO,)))
    digests = [OWN.without(["X1"]).digest, load("openai").digest]
    assert engine.of("warm") == [("guard-policies", None)]
    assert engine.of("prepare") == [("guard-policies", digest) for digest in digests]
    assert {thread for thread, _ in engine.of("score")} == {"guard-engine"}


async def test_long_texts_are_tokenized_off_the_event_loop() -> None:
    engine = Noting()
    async with served(engine) as service:
        await service.judge(Request((LONG,)))
        await service.judge(Request((HELLO,)))
    assert [thread for thread, _ in engine.of("tokenize")][-2:] == ["guard-tokenizer", "MainThread".rpartition("_")[0]]


async def test_a_policy_that_takes_long_holds_up_nobody_else_and_ends_with_the_deadline() -> None:
    gate = threading.Event()

    class Slow(FakeEngine):
        def prepare(self, policy: Policy) -> None:
            assert gate.wait(20)

    async with served(Slow()) as service:
        waiting = asyncio.create_task(service.judge(Request((HELLO,), Options("openai"), seconds=0.2)))
        await asyncio.sleep(0)
        assert isinstance((await service.judge(Request((LONG,))))[0], Verdict)
        with pytest.raises(DeadlineExceeded, match="allow more time"):
            await waiting
        assert (service.batcher.items, service.batcher.tokens) == (0, 0)
        gate.set()


async def test_errors_of_conversations_are_answers_and_others_are_raised() -> None:
    limits = Limits(conversation_characters=20, batch_conversations=3, queue_windows=2, exclude_codes=1)
    broken = InvalidInput("broken")
    async with served(limits=limits) as service:
        long, sound, same = await service.judge(Request((LONG, HELLO, broken)))
        assert isinstance(long, InvalidInput)
        assert isinstance(sound, Verdict)
        assert same is broken
        assert await service.judge(Request(())) == []
        for request, error in (
            (Request((HELLO,) * 4), TooLarge),
            (Request((HELLO, HELLO, HELLO)), TooLarge),
            (Request((HELLO,), Options("nobodys")), PolicyError),
            (Request((HELLO,), Options(exclude=("M9",))), PolicyError),
            (Request((HELLO,), Options(exclude=("M1", "M2"))), InvalidInput),
            (Request((HELLO,), seconds=0.0), DeadlineExceeded),
        ):
            with pytest.raises(error):
                await service.judge(request)
    with pytest.raises(Closed):
        await service.judge(Request((HELLO,)))


async def test_what_is_accepted_is_answered_before_it_stops() -> None:
    engine = HeldEngine()
    async with served(engine, Limits(queue_windows=1)) as service:
        accepted = asyncio.create_task(service.judge(Request((HELLO,))))
        await asyncio.to_thread(engine.busy.wait, 10)
        with pytest.raises(Overloaded, match="try again later"):
            await service.judge(Request((HELLO,)))
        draining = asyncio.create_task(service.drain())
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            await service.judge(Request((HELLO,)))
        assert not draining.done()
        engine.gate.set()
        assert isinstance((await accepted)[0], Verdict)
        await draining


async def test_it_tells_what_applies_under_given_options() -> None:
    async with served() as service:
        info = await service.info(Options(PolicyText(dump(OWN)), ("X2",), "strict"))
    policy = OWN.without(["X2"])
    assert (info.policy, info.mode, info.kind, info.limits) == (policy, "strict", "fake", Limits())
    assert info.thresholds == service.moderator.info_of(policy, "strict").thresholds


@pytest.mark.parametrize(
    "error", [Overloaded("full"), Closed("stopping"), InvalidInput("empty"), TooLarge("much"), PolicyError("line 3")]
)
def test_errors_written_for_callers_pass(error: GuardError, caplog: pytest.LogCaptureFixture) -> None:
    assert public(error) is error
    assert not caplog.records


@pytest.mark.parametrize(
    "kind",
    [EngineError, BundleError, ServiceError, ValueError, MemoryError, StopIteration, asyncio.CancelledError],
)
def test_of_other_errors_an_id_is_told_and_their_kind_logged(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    told = public(kind("CANARY"))
    assert type(told) is InternalError
    assert public(told) is told
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert kind.__name__ in record.getMessage()
    found = re.search(r"[0-9a-f]{32}", record.getMessage())
    assert found is not None
    assert found[0] in str(told)
    assert "CANARY" not in str(told) + caplog.text


def test_it_knows_no_way_in() -> None:
    code = (
        "import sys, guard.serve.core.service; print([n for n in ('grpc', 'google', 'starlette') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
