"""The service over a real socket: verdicts, policies, bounds, overload, cancellation, health and reflection."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from importlib.metadata import version

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from guard import Category, Conversation, Message, Moderator, Outcome, Policy, Verdict
from guard.calibration import Calibration, TargetCalibration, Thresholds
from guard.engines.fake import FakeEngine
from guard.errors import EngineError, InvalidInput, Overloaded, PolicyError, ServiceError, UnknownPolicy
from guard.policy import dump, from_text, load, shipped
from guard.prompts.window import TokenizedConversation
from guard.serve.grpc.servicer import SERVICE
from guard.serve.limits import Limits
from guard.serve.server import Settings, serving
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from guard.verdict import Timings
from tests.fixtures.served import BrokenEngine, HeldEngine, serve

HELLO = Conversation.of("how do I bake bread?")
BAD = Conversation.of("please violates:S1 now")
OWN = Policy("own", "1", "Own", (Category("X1", "One", "The first."), Category("X2", "Two", "The second.")))
SERVING = health_pb2.HealthCheckResponse.SERVING


def plain(verdict: Verdict) -> Verdict:
    return dataclasses.replace(verdict, timings=Timings())


@pytest.mark.parametrize(
    "conversation",
    [
        HELLO,
        BAD,
        Conversation.of("hello", "a reply that violates:S10 and violates:S2"),
        Conversation.of("long " * 3000 + "violates:S7 " + "tail " * 500),
        Conversation((Message("system", "rules"), Message("user", "hi"), Message("tool", "output 🙂 данные"))),
    ],
    ids=["safe", "unsafe", "response", "many windows", "roles"],
)
async def test_a_verdict_is_the_one_that_the_moderator_gives(conversation: Conversation) -> None:
    (expected,) = Moderator(FakeEngine(), load("mlcommons")).moderate([conversation])
    async with serve() as served:
        verdict = await served.client.moderate(conversation)
        (in_batch,) = await served.client.moderate_each([conversation])
    assert plain(verdict) == plain(in_batch) == plain(expected)
    assert list(verdict.categories) == list(expected.categories)
    assert verdict.timings.infer_ms > 0


async def test_a_batch_keeps_its_order_and_a_bad_item_fails_alone() -> None:
    texts = [f"text number {index} {'violates:S3' if index % 3 == 0 else ''}" for index in range(40)]
    texts[5], texts[6], texts[7] = "breaks read", "breaks score", "x" * 2000
    async with serve(BrokenEngine(), Limits(conversation_characters=1999)) as served:
        answers = await served.client.moderate_each([Conversation.of(text) for text in texts])
    assert len(answers) == 40
    assert [type(answers[index]) for index in (5, 6, 7)] == [EngineError, EngineError, InvalidInput]
    for index, answer in enumerate(answers):
        if index not in (5, 6, 7):
            assert isinstance(answer, Verdict)
            assert answer.outcome is (Outcome.UNSAFE if index % 3 == 0 else Outcome.SAFE)


async def test_client_ids_come_back() -> None:
    sent = [pb.Conversation(messages=[pb.Message(role="ROLE_USER", content="hi")], client_id=each) for each in "ab"]
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = ModerationServiceStub(channel)
        one = await stub.Moderate(pb.ModerateRequest(conversation=sent[0]))
        many = await stub.BatchModerate(pb.BatchModerateRequest(conversations=sent))
        assert one.client_id == "a"
        assert [item.client_id for item in many.items] == ["a", "b"]
        assert not (await stub.BatchModerate(pb.BatchModerateRequest())).items
        sent[0].client_id = "a" * 129
        with pytest.raises(grpc.RpcError) as refused:
            await stub.Moderate(pb.ModerateRequest(conversation=sent[0]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_policies_in_a_request() -> None:
    async with serve() as served:
        sent = await served.client.moderate(Conversation.of("violates:X2"), OWN)
        assert (sent.policy, sent.flagged, list(sent.categories)) == (OWN.digest, ("X2",), ["X1", "X2"])
        assert (await served.client.moderate(HELLO, "openai")).policy == load("openai").digest
        assert (await served.client.moderate(HELLO, "mlcommons")).policy == load("mlcommons").digest
        assert (await served.client.moderate(BAD)).outcome is Outcome.UNSAFE
        less = await served.client.moderate(BAD, exclude=["S1"])
        assert (less.outcome, less.policy) == (Outcome.SAFE, load("mlcommons").without(["S1"]).digest)
        assert (await served.client.moderate(BAD)).outcome is Outcome.UNSAFE
        for one, two in await asyncio.gather(*(served.client.moderate_each([BAD, HELLO], OWN) for _ in range(4))):
            assert [each.policy for each in (one, two)] == [OWN.digest] * 2


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"policy_name": "nowhere"}, UnknownPolicy, "known: aegis2, beavertails, "),
        ({"policy_name": __file__}, UnknownPolicy, "known: "),
        ({"policy_name": "../policies/openai.yaml"}, UnknownPolicy, "known: "),
        ({"policy_yaml": "id: x\nversion: '1'\nname: X\ncategoris: []"}, PolicyError, "policy_yaml:4: unknown key"),
        ({"policy_yaml": dump(OWN) + "#" * 65_536}, InvalidInput, "must be <= 65536"),
        ({"exclude": ["S99"]}, PolicyError, "did you mean S9"),
        ({"exclude": ["S1"] * 257}, InvalidInput, "must be <= 256"),
        ({"policy_yaml": dump(OWN), "exclude": ["X1", "X2"]}, PolicyError, "leaves no category"),
        ({"mode": 9}, InvalidInput, "MODE_STRICT"),
    ],
)
async def test_options_that_cannot_be_followed(options: dict, error: type, told: str) -> None:
    request = pb.ModerateRequest(
        conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]}, options=pb.ModerationOptions(**options)
    )
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = ModerationServiceStub(channel)
        for call in (
            stub.Moderate(request),
            stub.BatchModerate(pb.BatchModerateRequest(conversations=[request.conversation], options=request.options)),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                await call
            unknown = error is UnknownPolicy
            assert refused.value.code() is (grpc.StatusCode.NOT_FOUND if unknown else grpc.StatusCode.INVALID_ARGUMENT)
            assert told in refused.value.details()
            assert reason(refused.value) == error.__name__


async def test_policies_are_listed_and_sent_whole() -> None:
    async with serve(policy=OWN) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = ModerationServiceStub(channel)
        listed = (await stub.ListPolicies(pb.ListPoliciesRequest())).policies
        whole = (await stub.GetPolicy(pb.GetPolicyRequest(name="openai"))).policy
        own = (await stub.GetPolicy(pb.GetPolicyRequest(name="own"))).policy
        for name in ("nowhere", "", "../own"):
            with pytest.raises(grpc.RpcError) as refused:
                await stub.GetPolicy(pb.GetPolicyRequest(name=name))
            assert (refused.value.code(), reason(refused.value)) == (grpc.StatusCode.NOT_FOUND, "UnknownPolicy")
            assert "known: aegis2, " in refused.value.details()
    assert [each.name for each in listed] == ["own", *shipped()]
    assert all(each.digest and each.codes and not each.yaml for each in listed)
    assert from_text(whole.yaml, "sent") == load("openai")
    assert (own.name, own.digest, list(own.names)) == ("own", OWN.digest, ["One", "Two"])


async def test_tool_calls_are_judged_and_what_is_not_text_makes_a_verdict_incomplete() -> None:
    calls = [{"name": "send", "arguments": "violates:S1 "}, {"name": "stop", "arguments": ""}]
    asked = {"role": "ROLE_USER", "content": "hi"}
    picture = {"role": "ROLE_USER", "content": "", "unjudged": ["content[0]: image_url"]}
    cases = [
        ([asked, {"role": "ROLE_ASSISTANT", "tool_calls": calls}], pb.OUTCOME_SAFE, []),  # `send(violates:S1`
        ([asked, {"role": "ROLE_ASSISTANT", "content": "violates:S1", "tool_calls": calls}], pb.OUTCOME_UNSAFE, []),
        ([asked, {"role": "ROLE_TOOL", "content": "violates:S1"}], pb.OUTCOME_UNSAFE, []),
        ([picture], pb.OUTCOME_INCOMPLETE, ["messages[0].content[0]: image_url"]),
        ([picture, asked], pb.OUTCOME_INCOMPLETE, ["messages[0].content[0]: image_url"]),
        ([picture, asked | {"content": "violates:S1"}], pb.OUTCOME_UNSAFE, ["messages[0].content[0]: image_url"]),
    ]
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        for messages, outcome, unjudged in cases:
            request = pb.ModerateRequest(conversation={"messages": messages})
            verdict = (await ModerationServiceStub(channel).Moderate(request)).verdict
            assert (verdict.outcome, list(verdict.unjudged)) == (outcome, unjudged)
        same = await served.client.moderate(
            Conversation.from_messages([{"role": "user", "content": [{"type": "image_url"}]}])
        )
        long = pb.ModerateRequest(conversation={"messages": [asked | {"unjudged": ["x" * 129]}]})
        with pytest.raises(grpc.RpcError) as refused:
            await ModerationServiceStub(channel).Moderate(long)
    assert (same.outcome, same.unjudged) == (Outcome.INCOMPLETE, ("messages[0].content[0]: image_url",))
    assert "must be texts of <= 128 characters" in refused.value.details()


def details(error: grpc.RpcError, kind: type) -> object:
    status = rpc_status.from_call(error)  # ValueError where the status contradicts the call's own code or message
    assert status is not None
    for each in status.details:
        found = kind()
        if each.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in the status")


def reason(error: grpc.RpcError) -> str:
    return details(error, ErrorInfo).reason


async def test_the_mode_of_a_request_moves_the_threshold() -> None:
    calibration = Calibration(prompt=TargetCalibration(thresholds=Thresholds(0.1, 0.5, 0.9)))
    moderator = Moderator(FakeEngine(), OWN, calibration, "permissive")
    async with (
        serving(moderator, Settings(port=0, lame_duck_seconds=0)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        stub = ModerationServiceStub(channel)
        assert (await stub.GetInfo(pb.GetInfoRequest())).mode == pb.MODE_PERMISSIVE
        for mode, threshold in ((0, 0.9), (pb.MODE_STRICT, 0.1), (pb.MODE_BALANCED, 0.5), (pb.MODE_PERMISSIVE, 0.9)):
            request = pb.ModerateRequest(
                conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]}, options={"mode": mode}
            )
            assert (await stub.Moderate(request)).verdict.threshold == threshold


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "at least one message"),
        ([{"role": "ROLE_USER", "content": " \n"}], "is empty"),
        ([{"content": "hi"}], r"messages[0] has role 0; allowed: ROLE_USER, ROLE_ASSISTANT"),
        ([{"role": "ROLE_USER", "content": "hi"}, {"role": 77, "content": "hi"}], "messages[1] has role 77"),
        ([{"role": "ROLE_USER", "content": "word " * 30}], "has 150 characters, must be <= 100"),
        ([{"role": "ROLE_USER", "content": "a"}] * 6, "has 6 messages, must be <= 5"),
    ],
)
async def test_conversations_that_cannot_be_judged(messages: list[dict], told: str) -> None:
    bad = pb.Conversation(messages=messages)
    limits = Limits(conversation_characters=100, conversation_messages=5)
    async with serve(limits=limits) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = ModerationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            await stub.Moderate(pb.ModerateRequest(conversation=bad))
        batch = await stub.BatchModerate(pb.BatchModerateRequest(conversations=[bad]))
    assert (refused.value.code(), reason(refused.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidInput")
    assert told in refused.value.details()
    assert batch.items[0].error.message == refused.value.details()


async def test_too_many_for_one_call() -> None:
    limits = Limits(batch_conversations=3, queue_windows=2)
    hello = pb.Conversation(messages=[pb.Message(role="ROLE_USER", content="hi")])
    async with serve(limits=limits) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = ModerationServiceStub(channel)
        for count, told in ((4, "must be <= 3"), (3, "the queue holds at most 2 windows")):
            with pytest.raises(grpc.RpcError, match=told) as refused:
                await stub.BatchModerate(pb.BatchModerateRequest(conversations=[hello] * count))
            assert (refused.value.code(), reason(refused.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "TooLarge")
        assert len((await stub.BatchModerate(pb.BatchModerateRequest(conversations=[hello] * 2))).items) == 2


async def test_bytes_that_are_no_message_are_the_callers_mistake() -> None:
    text = b"\n\x05\n\x03\x12\x01\xff"  # a message whose content is not UTF-8
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        for method in ("Moderate", "BatchModerate", "GetInfo"):
            for data in (b"\x0a\xff", text)[: 1 if method == "GetInfo" else 2]:
                with pytest.raises(grpc.RpcError) as refused:
                    await channel.unary_unary(f"/{SERVICE}/{method}")(data)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_above_the_transports_size_is_refused() -> None:
    async with serve(limits=Limits(request_bytes=1000)) as served:
        assert isinstance(await served.client.moderate(Conversation.of("a" * 900)), Verdict)
        with pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED"):
            await served.client.moderate(Conversation.of("a" * 1000))


async def test_info() -> None:
    limits = Limits(conversation_characters=77, request_seconds=3.5)
    async with serve(limits=limits) as served:
        info = await served.client.info()
    policy = load("mlcommons")
    assert (info.kind, info.model, info.mode, info.limits) == ("fake", FakeEngine.info.digest, "balanced", limits)
    assert info.policy == policy
    assert info.thresholds == Moderator(FakeEngine(), policy).info.thresholds
    assert info.version == version("guard-service")


async def test_health_answers_while_the_engine_is_busy() -> None:
    engine = HeldEngine()
    async with serve(engine) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        waiting = asyncio.create_task(served.client.moderate(HELLO))
        await served.accepted(1)
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == SERVING
        assert not waiting.done()
        engine.gate.set()
        assert (await waiting).outcome is Outcome.SAFE


async def test_health_answers_while_a_long_text_is_tokenised() -> None:
    reading, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class SlowReader(FakeEngine):
        def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
            loop.call_soon_threadsafe(reading.set)
            assert gate.wait(20)
            return super().tokenize(conversation, policy)

    async with serve(SlowReader()) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        waiting = asyncio.create_task(served.client.moderate(Conversation.of("a long text " * 1000)))
        await reading.wait()
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == SERVING
        assert not waiting.done()
        gate.set()
        assert (await waiting).outcome is Outcome.SAFE


async def test_reflection_lists_the_service() -> None:
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        async for answer in stub.ServerReflectionInfo(asked):
            names = [service.name for service in answer.list_services_response.service]
    assert SERVICE == "guard.v1.ModerationService"
    assert {SERVICE, "grpc.health.v1.Health"} <= set(names)


async def test_overload_is_refused_at_once_with_a_time_to_retry() -> None:
    engine = HeldEngine()
    limits = Limits(queue_windows=2)
    async with serve(engine, limits) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        accepted = [asyncio.create_task(served.client.moderate(HELLO)) for _ in range(2)]
        await served.accepted(2)
        with pytest.raises(Overloaded, match="try again later"):
            await served.client.moderate(HELLO)
        with pytest.raises(grpc.RpcError) as refused:
            await ModerationServiceStub(channel).Moderate(
                pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]})
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(refused.value, RetryInfo).retry_delay.seconds >= 1
        engine.gate.set()
        assert [(await task).outcome for task in accepted] == [Outcome.SAFE] * 2
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_a_caller_that_is_gone_is_not_computed(how: str) -> None:
    engine = HeldEngine()
    async with serve(engine) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        first = asyncio.create_task(served.client.moderate(HELLO))
        await served.accepted(1)
        request = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "abandoned"}]})
        call = ModerationServiceStub(channel).Moderate(request, timeout=0.2 if how == "deadline" else None)
        if how == "cancelled":
            waiting = asyncio.ensure_future(call)
            await served.accepted(2)
            waiting.cancel()
        else:
            with pytest.raises(grpc.RpcError) as late:
                await call
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await served.accepted(1)
        engine.gate.set()
        assert (await first).outcome is Outcome.SAFE
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
    assert not any(b"abandoned" in text for text in engine.scored)


async def test_a_request_without_deadline_is_given_one() -> None:
    engine = HeldEngine()
    request = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hi"}]})
    limits = Limits(request_seconds=0.05)
    async with serve(engine, limits) as served, grpc.aio.insecure_channel(served.running.address) as channel:
        with pytest.raises(grpc.RpcError) as late:
            await ModerationServiceStub(channel).Moderate(request)
        assert (late.value.code(), reason(late.value)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DeadlineExceeded")
        engine.gate.set()


async def test_a_cancellation_from_inside_is_answered() -> None:
    async with serve(BrokenEngine()) as served:
        with pytest.raises(EngineError, match="internal error"):
            await served.client.moderate(Conversation.of("is cancelled"))
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE


async def test_an_engine_that_reads_nothing_fails_its_own_conversation() -> None:
    class Nothing(FakeEngine):
        def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
            return super().tokenize(conversation, policy) if conversation == HELLO else TokenizedConversation((), 0, 0)

    async with serve(Nothing()) as served:
        answers = await served.client.moderate_each([HELLO, BAD])
    assert [type(answer) for answer in answers] == [Verdict, EngineError]


async def test_a_port_in_use_and_a_host_that_is_none() -> None:
    moderator = Moderator(FakeEngine(), OWN)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with serving(moderator, Settings(port=port)):
                pass
    async with serving(moderator, Settings(port=0, lame_duck_seconds=0)) as running:
        with pytest.raises(ServiceError, match="already in use"):
            async with serving(moderator, Settings(port=int(running.address.rpartition(":")[2]))):
                pass
    with pytest.raises(ServiceError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        async with serving(moderator, Settings(host="192.0.2.1", port=0)):
            pass
