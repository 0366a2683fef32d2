"""No word of a conversation reaches a log, an error or a repr, whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import logging
import socket

import grpc
import pytest

from guard import Candidate, Conversation
from guard.engines.fake import FakeEngine
from guard.errors import GuardError
from guard.serve.grpc.servicer import SERVICE
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb
from tests.fixtures import http2
from tests.fixtures.served import BrokenEngine, HeldEngine, HeldReader, Process, serve

CANARY = "kumquat"


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        (f"{CANARY} in a valid text", FakeEngine),
        (f"{CANARY} violates:S1", FakeEngine),
        (f"{CANARY} " * 100, FakeEngine),
        (f"{CANARY} " * 100_000, FakeEngine),
        (f"{CANARY} " * 600_000, FakeEngine),
        (f"{CANARY} breaks read", BrokenEngine),
        (f"{CANARY} breaks score", BrokenEngine),
        (f"{CANARY} is cancelled", BrokenEngine),
    ],
    ids=["valid", "unsafe", "characters", "server's bytes", "client's bytes", "read", "score", "cancelled"],
)
async def test_calls(
    text: str, engine: type[FakeEngine], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[object] = []
    limits = Limits(conversation_characters=700, request_bytes=700_000)
    async with serve(engine(), limits, scorers={"helpful": HeldReader(held=False).scorer()}) as served:
        client = served.client
        for call in (
            client.moderate(Conversation.of("hello", text)),
            client.score("hello", f"{text} breaks"),
            client.compare("hello", text, "hello", "safe"),
            client.compare(text, "breaks", f"{text} again", "helpful"),
        ):
            try:
                answers.append(await call)
            except GuardError as error:
                answers += [error, error.__cause__, error.__context__]
        answers += await client.moderate_each([Conversation.of(text), Conversation.of("hello")])
        answers += await client.score_each([Candidate.of("hello", text), Candidate.of(text, "breaks", text)])
    assert_clean(answers, caplog, capfd)


async def test_messages_that_cannot_be_read(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    message = {"role": 99, "content": CANARY}
    bad_role = pb.ModerateRequest(conversation={"messages": [message], "client_id": CANARY})
    bad_policy = pb.ModerateRequest(
        conversation={"messages": [message | {"role": 1}]}, options={"policy_yaml": "id: [", "exclude": ["S1"]}
    )
    requests = [
        bad_role.SerializeToString(),
        bad_policy.SerializeToString(),
        bad_policy.SerializeToString().replace(CANARY.encode(), CANARY[:-1].encode() + b"\xff"),
        CANARY.encode(),
    ]
    errors: list[object] = []
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        for request in requests:
            with pytest.raises(grpc.RpcError) as refused:
                await channel.unary_unary(f"/{SERVICE}/Moderate")(request)
            errors.append(refused.value)
    assert_clean(errors, caplog, capfd)


async def test_overload_and_deadline(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    engine = HeldEngine()
    errors: list[object] = []
    async with serve(engine, Limits(request_seconds=0.2, queue_windows=1)) as served:
        waiting = asyncio.create_task(served.client.moderate(Conversation.of(CANARY)))
        await served.accepted(1)
        for call in (served.client.moderate(Conversation.of(CANARY)), waiting):
            with pytest.raises(GuardError) as refused:
                await call
            errors.append(refused.value)
        engine.gate.set()
    assert_clean(errors, caplog, capfd)


GET_INFO = f"/{SERVICE}/GetInfo".encode()


@pytest.mark.parametrize(
    "sent",
    [
        http2.goaway(CANARY.encode()),
        http2.request(GET_INFO, (b"authorization", f"Bearer {CANARY}".encode() + b"\xff")),
        http2.request(GET_INFO, (b"x-" + CANARY.encode() + b"\xff", b"1")),
        http2.request(GET_INFO, (b"x-bin", f"{CANARY}!".encode())),
        http2.request(GET_INFO, (b"grpc-encoding", CANARY.encode())),
        http2.request(f"/{SERVICE}/{CANARY}".encode() + b"\xff"),
        http2.request(f"/{CANARY}".encode()),
    ],
    ids=["goaway", "value", "key", "base64", "encoding", "path", "method"],
)
def test_what_grpc_itself_would_log(sent: bytes, process: Process) -> None:
    with http2.connection(process.address) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        for _ in http2.frames(raw):  # until the server has done with it
            pass
    assert CANARY not in process.errors.read_text()


def assert_clean(answers: list[object], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    assert answers
    for answer in answers:
        assert CANARY not in f"{answer!r} {answer}"
    assert CANARY not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert CANARY not in "".join(capfd.readouterr())
