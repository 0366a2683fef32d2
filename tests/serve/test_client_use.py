"""What applications do with clients: decide without a verdict, ask twice, fork, and send them to workers."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from multiprocessing.queues import Queue

import pytest

from guard import AsyncGuardClient, Conversation, GuardClient, Outcome
from guard.errors import ConfigError, PolicyError, ServiceError
from guard.serve.client.kept import KEPT_S, KeptVerdicts
from guard.serve.grpc import messages
from guard.v1 import moderation_pb2 as pb
from tests.fixtures.served import HeldEngine, Process, serve

HELLO = Conversation.of("hello")
HARM = Conversation.of("[[unsafe]] hello")
NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize("on_error", ["block", "allow", "raise"])
async def test_without_a_verdict_the_rule_holds(on_error: str, caplog: pytest.LogCaptureFixture) -> None:
    with GuardClient(NOWHERE, timeout_s=2, on_error=on_error) as client, caplog.at_level(logging.WARNING):  # type: ignore[arg-type]
        async with AsyncGuardClient(NOWHERE, timeout_s=2, on_error=on_error) as other:  # type: ignore[arg-type]
            for one in (HELLO, Conversation.of("hello", "a canary reply")):
                if on_error == "raise":
                    with pytest.raises(ServiceError):
                        client.blocks(one)
                    with pytest.raises(ServiceError):
                        await other.blocks(one)
                else:
                    assert client.blocks(one) == (await other.blocks(one)) == (on_error == "block")
            counts = {("prompt", "ServiceError"): 1, ("reply", "ServiceError"): 1} if on_error == "allow" else {}
            assert client.fail_open.counts == other.fail_open.counts == counts
    assert ("passed without a verdict" in caplog.text) == (on_error == "allow")
    assert "canary" not in caplog.text


async def test_with_a_verdict_it_is_what_counts() -> None:
    async with serve() as served, AsyncGuardClient(served.running.address, on_error="allow") as client:
        assert not await client.blocks(HELLO)
        with pytest.raises(PolicyError):
            await client.blocks(HELLO, policy="no-such-policy")
        assert client.fail_open.counts == {}


def test_an_unknown_rule_is_told() -> None:
    with pytest.raises(ConfigError, match="on_error 'ignore' must be one of block, allow, raise"):
        GuardClient(NOWHERE, on_error="ignore")  # type: ignore[arg-type]


async def test_equal_conversations_are_asked_once() -> None:
    engine = HeldEngine()
    engine.gate.set()
    texts = [Conversation.of(text) for text in ("one", "two", "one")]
    async with serve(engine) as served, AsyncGuardClient(served.running.address, keep=2) as client:
        first = await client.moderate_each(texts[:2])
        asked = len(engine.scored)
        assert await client.moderate_each(texts) == [*first, first[0]]
        assert await client.moderate(texts[1]) == first[1]
        assert len(engine.scored) == asked
        assert (await client.moderate(texts[1], exclude=("S1",))).outcome is Outcome.SAFE  # other options
        assert len(engine.scored) == asked + 1
        await client.moderate(texts[0])  # was forgotten: two are kept
        assert len(engine.scored) == asked + 2


async def test_verdicts_are_forgotten_with_time_and_with_the_model() -> None:
    now = 0.0
    kept, options = KeptVerdicts(10, lambda: now), pb.ModerationOptions()
    sent = [messages.conversation_to_proto(Conversation.of(text)) for text in ("one", "two")]
    async with serve() as served:
        verdict = await served.client.moderate(HELLO)
    kept.keep(sent[0], options, verdict)
    now = KEPT_S - 1
    assert kept.get(sent[0], options) == verdict
    now = KEPT_S + 1
    assert kept.get(sent[0], options) is None
    kept.keep(sent[0], options, verdict)
    import dataclasses

    kept.keep(sent[1], options, dataclasses.replace(verdict, model="f" * 64))
    assert kept.get(sent[0], options) is None
    assert kept.get(sent[1], options) is not None


def ask(client: GuardClient, answers: Queue[str]) -> None:
    answers.put(client.moderate(HELLO).outcome.name)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_it_works_in_other_processes(process: Process, way: str) -> None:
    context = multiprocessing.get_context(way)
    answers = context.Queue()
    with GuardClient(process.address, timeout_s=20) as client:
        assert client.moderate(HELLO).outcome is Outcome.SAFE
        workers = [context.Process(target=ask, args=(client, answers)) for _ in range(2)]
        for worker in workers:
            worker.start()
        assert [answers.get(timeout=60) for _ in workers] == ["SAFE", "SAFE"]
        for worker in workers:
            worker.join(20)
        assert client.moderate(HELLO).outcome is Outcome.SAFE


def test_a_copy_has_what_the_client_was_given() -> None:
    given = {"policy": "mlcommons", "mode": "strict", "api_key": "secret", "on_error": "allow", "keep": 5}
    with GuardClient(NOWHERE, 3.0, **given) as client, pickle.loads(pickle.dumps(client)) as copy:  # type: ignore[arg-type]
        assert (copy.target, copy.timeout_s, copy.on_error) == (NOWHERE, 3.0, "allow")
        assert copy._given == client._given
