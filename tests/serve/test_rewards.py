"""RewardService over a real socket: the rewards of guard.rewards, errors of single answers, queues of their own."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import AsyncGuardClient, Candidate, Conversation, GuardClient, GuardError, Moderator, Outcome
from guard.engines.fake import FakeEngine
from guard.errors import (
    Closed,
    DeadlineExceeded,
    EngineError,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    ServiceError,
    Unauthenticated,
)
from guard.policy import load
from guard.reward.components import WEIGHTS, Components, fake_safety
from guard.reward.fake import FakeReader, fake_scorer
from guard.reward.score import CLIP
from guard.serve.core.audit import Audit
from guard.serve.core.candidate import CandidateReward
from guard.serve.core.keys import new_key
from guard.serve.grpc.rewards import SERVICE
from guard.serve.limits import Limits
from guard.v1 import reward_pb2 as pb
from guard.v1.reward_pb2_grpc import RewardServiceStub
from tests.fixtures.served import BrokenEngine, HeldEngine, HeldReader, Process, serve
from tests.serve.test_keys import write
from tests.serve.test_language import GERMAN, English

HARM = "violates:M1"
TEXTS = ("Hello there!", HARM, "good good", "bad, and violates:M1", "", " ", "Eight minutes in boiling water. " * 200)


def of(*answers: str) -> list[Candidate]:
    return [Candidate.of("How do I boil an egg?", answer) for answer in answers]


async def test_rewards_are_those_that_the_same_components_give_in_process() -> None:
    expected = Components(fake_safety(), fake_scorer()).score([("How do I boil an egg?", each) for each in TEXTS])
    async with serve(policy=load("minimal"), scorers={"helpful": fake_scorer()}) as served:
        each = await served.client.score_each(of(*TEXTS))
        one = await served.client.score("How do I boil an egg?", TEXTS[2])
    assert one == each[2]
    for theirs, ours in zip(expected, each, strict=True):
        assert isinstance(ours, CandidateReward)
        assert ours.error is None
        assert ours.total == pytest.approx(theirs.total)
        assert {name: part.reward for name, part in ours.components.items()} == pytest.approx(dict(theirs.components))
        assert {name: part.weight for name, part in ours.components.items()} == dict(WEIGHTS)


async def test_components_are_chosen_and_weighted() -> None:
    scorers = {"helpful": fake_scorer(), "brief": fake_scorer()}
    async with serve(scorers=scorers, reward_weights={"helpful": 3.0, "safe": 0.25}) as served:
        every = await served.client.score("Hi", "good good")
        some = await served.client.score("Hi", "good good", components=["brief", "helpful"])
        alone = await served.client.score("Hi", "good good", components=["brief"])
        with pytest.raises(InvalidInput, match="unknown component 'kind'; known: safe, not_refusal, helpful, brief"):
            await served.client.score("Hi", "good", components=["kind"])
    assert list(every.components) == ["safe", "not_refusal", "helpful", "brief"]
    assert every.components["safe"].score is not None
    assert every.components["safe"].model == FakeEngine.info.digest
    assert every.components["brief"].model == scorers["brief"].info.fingerprint
    assert every.total == pytest.approx(3 * 2 + 0.25 * every.components["safe"].score.reward)
    assert {name: each.reward for name, each in some.components.items()} == {"brief": 2, "helpful": 2}
    assert (some.total, alone.total) == (6, 0)
    assert alone.components["brief"].weight == 0


async def test_a_candidate_that_cannot_be_judged_has_the_lowest_reward_and_fails_no_other() -> None:
    candidates = of("fine", "breaks read", "breaks score", "x" * 2000, "fine")
    sent = [Candidate.of([{"role": "user", "content": [{"type": "image_url"}]}], "fine"), *candidates]
    reader = HeldReader(held=False)
    async with serve(
        BrokenEngine(), Limits(conversation_characters=1999), scorers={"helpful": reader.scorer()}
    ) as served:
        rewards = await served.client.score_each(sent)
        for index, error in ((0, InvalidInput), (2, EngineError), (4, InvalidInput)):
            with pytest.raises(error):
                await served.client.score(sent[index].prompt, sent[index].response)
    errors = [each if isinstance(each, GuardError) else each.error for each in rewards]
    assert [None if error is None else type(error) for error in errors] == [
        InvalidInput,
        None,
        EngineError,
        EngineError,
        InvalidInput,
        None,
    ]
    lowest = Components(fake_safety(), fake_scorer()).bound
    assert lowest == -20
    assert [each.total for each in rewards] == pytest.approx(
        [lowest, rewards[1].total, *[lowest] * 3, rewards[1].total]
    )
    assert rewards[1].total > 0
    assert all(each.components["safe"].reward is None for each in (rewards[0], rewards[2], rewards[3]))


async def test_a_language_that_cannot_be_judged_is_no_reward() -> None:
    async with serve(English()) as served:
        (reward,) = await served.client.score_each(of(GERMAN))
        with pytest.raises(InvalidInput, match="language: de"):
            await served.client.score("Hallo", GERMAN)
    assert isinstance(reward, CandidateReward)
    assert (reward.total, str(reward.error)) == (-12, "a part of the content cannot be judged: language: de")


async def test_answers_are_compared_by_any_component() -> None:
    scorers = {"pair": fake_scorer(FakeReader(pairwise=True, bias=1.0)), "helpful": fake_scorer()}
    async with serve(policy=load("minimal"), scorers=scorers) as served:
        compare = served.client.compare
        local = scorers["pair"].compare("Hi", "good", "bad")
        assert await compare("Hi", "good", "bad") == local
        assert local.gap > 0
        assert await compare("Hi", "good", "bad", component="helpful") == scorers["helpful"].compare(
            "Hi", "good", "bad"
        )
        safe = await compare("Hi", "Hello there!", HARM, component="safe")
        assert (await compare("Hi", HARM, "Hello there!", component="safe")).p == pytest.approx(1 - safe.p)
        assert safe.p > 0.99
        for arguments, told in (
            (("Hi", "good", "bad", "not_refusal"), "no component 'not_refusal' compares answers; known: safe, pair"),
            (("Hi", "good", " "), "at least one visible character"),
            (("Hi", "x" * 300_000, "bad"), "must be <= 262144"),
            (("Hi", "good", "x" * 300_000, "safe"), "must be <= 262144"),
        ):
            with pytest.raises(InvalidInput, match=told):
                await compare(*arguments)


async def test_a_model_that_only_compares_needs_a_reference() -> None:
    scorers = {"pair": fake_scorer(FakeReader(pairwise=True)), "helpful": fake_scorer()}
    async with serve(scorers=scorers) as served:
        plain, referred, mixed = [
            await served.client.score_each([Candidate.of("Hi", "good", each)]) for each in (None, "bad", " ")
        ]
        both = await served.client.score_each([Candidate.of("Hi", "good"), Candidate.of("Hi", "good", "bad")], ["pair"])
    assert list(plain[0].components) == ["safe", "not_refusal", "helpful"]
    assert plain[0].components["helpful"].reward == 1
    assert list(referred[0].components) == ["safe", "not_refusal", "pair", "helpful"]
    assert [referred[0].components[name].reward for name in scorers] == [2, 2]
    assert "reference must have" in str(mixed[0].error)
    assert "pair only compares answers; give `reference`" in str(both[0].error)
    assert both[1].error is None


async def test_a_slow_reward_model_delays_nobody_else() -> None:
    reader = HeldReader()
    async with serve(scorers={"slow": reader.scorer(), "helpful": fake_scorer()}) as served:
        waiting = asyncio.create_task(served.client.score("Hi", "good", components=["slow"]))
        while not reader.busy.is_set():
            await asyncio.sleep(0.001)
        async with asyncio.timeout(5):
            assert (await served.client.moderate(Conversation.of("Hi"))).outcome is Outcome.SAFE
            assert (await served.client.score("Hi", "good", components=["safe", "helpful"])).error is None
        assert not waiting.done()
        reader.gate.set()
        assert (await waiting).components["slow"].reward == 1


async def test_a_held_guard_does_not_delay_a_reward_model() -> None:
    engine = HeldEngine()
    async with serve(engine, scorers={"helpful": fake_scorer()}) as served:
        waiting = asyncio.create_task(served.client.score("Hi", "good"))
        await served.accepted(1)
        assert (await served.client.score("Hi", "bad", components=["helpful"])).total == -1
        engine.gate.set()
        assert (await waiting).error is None


async def test_the_queue_of_a_reward_model_is_bounded_and_clients_come_back() -> None:
    reader = HeldReader()
    async with (
        serve(limits=Limits(queue_windows=2), scorers={"helpful": reader.scorer()}, rest=True) as served,
        grpc.aio.insecure_channel(served.running.address) as channel,
    ):
        ask = {"components": ["helpful"]}
        accepted = [asyncio.create_task(served.client.score("Hi", "good", **ask)) for _ in range(2)]
        batcher = served.running.rewards._batchers["helpful"]
        async with asyncio.timeout(10):
            while batcher.items != 2:
                await asyncio.sleep(0.001)
        with pytest.raises(Overloaded, match="try again later"):
            await served.client.score("Hi", "good", **ask)
        with pytest.raises(grpc.RpcError) as refused:
            await RewardServiceStub(channel).Score(
                pb.ScoreRequest(
                    candidate={"prompt": [{"role": "ROLE_USER", "content": "Hi"}], "response": "good"}, options=ask
                )
            )
        status = rpc_status.from_call(refused.value)
        assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
        patient = asyncio.create_task(served.client.score_each(of("good", "bad"), ["helpful"]))
        await asyncio.sleep(0.05)
        reader.gate.set()
        assert [each.total for each in await patient] == [1, -1]
        assert [(await each).total for each in accepted] == [1, 1]
        assert batcher.items == batcher.tokens == 0
        async with httpx.AsyncClient(trust_env=False) as http:
            page = (await http.get(f"{served.running.rest_url}/metrics")).text
    assert 'guard_shed_total{reason="Overloaded"}' in page


async def test_a_large_batch_of_one_client_lets_others_pass() -> None:
    reader = HeldReader()
    order: list[str] = []
    async with (
        serve(scorers={"helpful": reader.scorer()}) as served,
        AsyncGuardClient(served.running.address, priority="batch") as patient,
    ):

        async def asked(name: str, client: AsyncGuardClient, candidates: list[Candidate]) -> None:
            await client.score_each(candidates, ["helpful"])
            order.append(name)

        await served.client.info()
        await patient.info()
        many = asyncio.create_task(asked("many", patient, of(*(f"good {number}" for number in range(256)))))
        while not reader.busy.is_set():
            await asyncio.sleep(0.001)
        one = asyncio.create_task(asked("one", served.client, of("good")))
        async with asyncio.timeout(10):
            while served.running.rewards._batchers["helpful"].items != 257:
                await asyncio.sleep(0.001)
        reader.gate.set()
        await asyncio.gather(many, one)
    assert order == ["one", "many"]


async def test_a_deadline_ends_the_wait_and_the_answer_leaves_the_queue() -> None:
    reader = HeldReader()
    async with serve(limits=Limits(request_seconds=0.2), scorers={"helpful": reader.scorer()}) as served:
        late = [served.client.score("Hi", "good", components=["helpful"]) for _ in range(3)]
        errors = await asyncio.gather(*late, return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineExceeded] * 3
        assert served.running.rewards._batchers["helpful"].items == 0
        async with AsyncGuardClient(served.running.address, timeout_s=0.1) as hasty:
            with pytest.raises(DeadlineExceeded):
                await hasty.score("Hi", "good")
        reader.gate.set()
    assert sum(reader.batches) <= 4


async def test_accepted_rewards_are_answered_at_shutdown_and_new_ones_are_refused() -> None:
    reader = HeldReader()
    async with serve(scorers={"helpful": reader.scorer()}) as served:
        accepted = asyncio.create_task(served.client.score("Hi", "good", components=["helpful"]))
        while not reader.busy.is_set():
            await asyncio.sleep(0.001)
        draining = asyncio.create_task(served.running.rewards.drain())
        await asyncio.sleep(0)
        async with AsyncGuardClient(served.running.address, timeout_s=5) as other:
            with pytest.raises(Closed):
                await other.score("Hi", "good", components=["helpful"])
        assert not accepted.done()
        reader.gate.set()
        assert (await accepted).total == 1
        await draining
        await asyncio.wait_for(served.running.stopped(), 5)


async def test_a_reward_that_breaks_inside_is_an_error_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(scorers={"helpful": HeldReader(held=False).scorer()}) as served:
        broken, fine = await served.client.score_each(of("kumquat breaks", "good"))
    assert isinstance(broken.error, EngineError)
    assert "kumquat" not in f"{broken.error!r}{caplog.text}"
    assert fine.error is None
    assert fine.components["helpful"].reward == 1


async def test_keys_scopes_and_quotas_are_those_of_moderation(tmp_path: Path) -> None:
    (clear, key), (page, scrape) = new_key("app", ("moderate",)), new_key("prometheus", ("metrics",))
    file = write(tmp_path / "keys.yaml", key, scrape)
    async with serve(api_keys=file, api_key=clear, scorers={"helpful": fake_scorer()}) as served:
        assert (await served.client.score("Hi", "good")).error is None
        for wrong, error in (("", Unauthenticated), (page, PermissionDenied)):
            async with AsyncGuardClient(served.running.address, api_key=wrong) as client:
                for call in (client.score("Hi", "good"), client.compare("Hi", "good", "bad")):
                    with pytest.raises(error):
                        await call
    limited = tmp_path / "limited.yaml"
    limited.write_text(write(tmp_path / "keys.yaml", key).read_text() + "  per_second: 0.5\n")
    for components in (["helpful"], ["safe"], []):
        async with serve(api_keys=limited, api_key=clear, scorers={"helpful": fake_scorer()}) as served:
            assert (await served.client.score("Hi", "good", components=components)).error is None
            with pytest.raises(QuotaExceeded):
                await served.client.score("Hi", "good", components=components)


async def test_scores_are_told_as_exactly_as_the_server_tells_them() -> None:
    async with serve(scores="labels", policy=load("minimal")) as served:
        safe = await served.client.score("Hi", "Hello there!")
        harmful = await served.client.score("Hi", HARM)
    assert [each.components["safe"].reward for each in (safe, harmful)] == [CLIP, -CLIP]


async def test_policies_and_refusable_prompts() -> None:
    class Refusing(BrokenEngine):
        def score(self, windows: Any) -> Any:
            return [type(one)(one.unsafe, one.categories, refusal=2.0) for one in super().score(windows)]

    async with serve(Refusing(), policy=load("minimal")) as served:
        assert (await served.client.score("Hi", "violates:S1")).total > 0
        assert (await served.client.score("Hi", "violates:S1", policy="mlcommons")).total < 0
        assert (await served.client.score("Hi", "violates:S1", policy="mlcommons", exclude=["S1"])).total > 0
        refusal = await served.client.score("Hi", "No.")
        right = await served.client.score("Hi", "No.", refusable=True)
    assert refusal.components["not_refusal"].reward == pytest.approx(-2, abs=1e-6)
    assert right.components["not_refusal"].reward is None
    assert right.total == pytest.approx(refusal.total + 1)


async def test_a_batch_keeps_its_order_ids_and_limits() -> None:
    candidates = [
        pb.Candidate(prompt=[{"role": "ROLE_USER", "content": "Hi"}], response="good " * number, client_id=str(number))
        for number in range(40)
    ]
    broken = [pb.Candidate(response="x"), pb.Candidate(prompt=[{"content": "x"}]), pb.Candidate(client_id="a" * 129)]
    async with (
        serve(scorers={"helpful": fake_scorer()}) as served,
        grpc.aio.insecure_channel(served.running.address) as channel,
    ):
        stub = RewardServiceStub(channel)
        told = await stub.BatchScore(pb.BatchScoreRequest(candidates=[*candidates, *broken]))
        assert not (await stub.BatchScore(pb.BatchScoreRequest())).items
        for request in (
            pb.BatchScoreRequest(candidates=candidates * 7),
            pb.BatchScoreRequest(candidates=candidates, options={"moderation": {"mode": 9}}),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                await stub.BatchScore(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [item.client_id for item in told.items] == [*map(str, range(40)), "", "", "a" * 129]
    helpful = [item.reward.components[2].score.reward for item in told.items[:40]]
    assert helpful == [0, *(min(CLIP, number) for number in range(1, 40))]
    assert not any(item.HasField("error") for item in told.items[:40])
    assert [item.error.code for item in told.items[40:]] == [3, 3, 3]
    assert [item.reward.total for item in told.items[40:]] == [-20, -20, -20]


async def test_health_knows_the_service() -> None:
    async with serve() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        assert SERVICE == "guard.v1.RewardService"
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_blocking_client_and_a_server_that_is_gone() -> None:
    async with serve(scorers={"helpful": fake_scorer()}) as served:
        theirs = await served.client.score("Hi", "good")

        def ask() -> None:
            with GuardClient(served.running.address) as client:
                assert client.score("Hi", "good") == theirs
                assert client.score_each(of("good"))[0].total == pytest.approx(theirs.total)
                assert client.score_each([]) == []
                assert client.compare("Hi", "good", "bad").p == pytest.approx(1 / (1 + math.exp(-2)))

        await asyncio.to_thread(ask)
        address = served.running.address
    async with AsyncGuardClient(address, timeout_s=2) as client:
        (failed,) = await client.score_each(of("good"))
    assert isinstance(failed, ServiceError)


async def test_verdicts_behind_rewards_are_in_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with serve(policy=load("minimal"), audit=Audit(path), scorers={"helpful": fake_scorer()}) as served:
        await served.client.score_each(of("good", HARM))
        await served.client.score("Hi", "good", components=["helpful"])
        await served.client.compare("Hi", "good", "bad", "safe")
    assert [json.loads(line)["outcome"] for line in path.read_text().splitlines()] == ["SAFE", "UNSAFE", "SAFE", "SAFE"]


async def test_a_reload_changes_the_guard_and_no_reward_model() -> None:
    fresh = Moderator(FakeEngine(), load("mlcommons"))
    async with serve(policy=load("minimal"), reopen=lambda: fresh, scorers={"helpful": fake_scorer()}) as served:
        before = await served.client.score("Hi", "good violates:S1")
        await served.running.live.reload()
        after = await served.client.score("Hi", "good violates:S1")
    assert before.components["safe"].reward > 0 > after.components["safe"].reward
    assert before.components["helpful"] == after.components["helpful"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([*TEXTS, "x" * 6000]) | st.text(max_size=40), max_size=6))
def test_a_reward_is_the_same_alone_and_in_any_batch(process: Process, answers: list[str]) -> None:
    with GuardClient(process.address) as client:
        together = client.score_each(of(*answers))
        alone = [client.score_each(of(answer))[0] for answer in answers]
    assert [(each.total, each.components, type(each.error)) for each in together] == [
        (each.total, each.components, type(each.error)) for each in alone
    ]
    assert all(-12 <= each.total <= 12 for each in together)
