"""POST /get_reward and /verify: what OpenRLHF and NeMo Gym send, many single samples at once, and errors of a row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.engines.fake import FakeEngine
from guard.policy import load
from guard.reward.fake import FakeReader, fake_scorer
from guard.rewards import make_reward
from guard.serve.core.keys import new_key
from guard.serve.http.table import REWARD_TRANSLATORS
from guard.serve.limits import Limits
from tests.fixtures.served import BrokenEngine, HeldEngine, HeldReader, Served, serve
from tests.serve.test_keys import write
from tests.test_rewards import Blank

HARM = "violates:M1"
PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
CANARY = "kumquat"
PATHS = [each.path for each in REWARD_TRANSLATORS]


def rollout(answer: Any, prompt: Any = "Hi", **more: Any) -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}
    return {"responses_create_params": {"input": prompt}, "response": {"id": "1", "output": [item]}, **more}


def http_of(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=str(served.running.rest_url), trust_env=False, timeout=20)


SOUND: Mapping[str, Any] = {
    "/get_reward": {"query": [f"{PROMPT}Hello"], "prompts": [PROMPT]},
    "/verify": rollout("Hello"),
}


def test_every_format_is_tried_here() -> None:
    assert set(PATHS) == set(SOUND)


async def test_get_reward_is_the_one_of_guard_rewards() -> None:
    reward = make_reward(model="fake", policy="minimal")
    answers = ["Hello there!", HARM, "", "good"]
    body = {"query": [PROMPT + each for each in answers], "prompts": [PROMPT] * 4, "labels": ["x"] * 4, "new_field": 1}
    async with serve(policy=load("minimal"), rest=True) as served, http_of(served) as http:
        told = (await http.post("/get_reward", json=body)).json()
        bare = (await http.post("/get_reward", json={"query": answers[:2]})).json()
        none = (await http.post("/get_reward", json={"query": []})).json()
    expected = reward.get_reward(body)
    assert told["rewards"] == told["scores"] == pytest.approx(expected["rewards"])
    for name in ("safe", "not_refusal"):
        assert told["extra_logs"][name] == pytest.approx(expected["extra_logs"][name])
    assert told["extra_logs"]["undecided"] == [0, 0, 0, 0]
    assert told["errors"] == [None] * 4
    assert bare["rewards"] == pytest.approx(reward.get_reward({"query": answers[:2]})["rewards"])
    assert none == {"rewards": [], "scores": [], "extra_logs": {"undecided": []}, "errors": []}


async def test_a_bad_row_gets_the_lowest_reward_and_an_error() -> None:
    query = ["fine", None, "breaks score", "x" * 2000, "breaks read", "fine"]
    async with (
        serve(
            BrokenEngine(), Limits(conversation_characters=1999), rest=True, scorers={"helpful": fake_scorer()}
        ) as served,
        http_of(served) as http,
    ):
        answer = await http.post("/get_reward", json={"query": query})
        page = (await http.get("/metrics")).text
    assert answer.status_code == 200
    told = answer.json()
    assert told["rewards"][0] == told["rewards"][5] > 0
    assert told["rewards"][1:5] == [-20] * 4
    assert told["extra_logs"]["undecided"] == [0, 1, 1, 1, 1, 0]
    assert told["extra_logs"]["helpful"] == [0] * 6
    kinds = [error and error["kind"] for error in told["errors"]]
    assert kinds == [None, "InvalidInput", "InternalError", "InvalidInput", "InternalError", None]
    assert told["errors"][1]["error"] == "query[1] and prompts[1] must be strings"
    assert "breaks" not in answer.text
    assert 'guard_unrewarded_total{reason="InternalError"} 2.0' in page
    assert 'guard_reward_batch_size_sum{component="helpful"} 4.0' in page
    assert 'guard_reward_queue_depth{component="helpful"} 0.0' in page
    assert 'guard_requests_total{code="200",method="/get_reward"} 1.0' in page


async def test_null_is_no_text_and_no_number_is_no_reward() -> None:
    said = rollout(None)
    said["response"]["output"] += [{"type": "message", "content": None}, {"type": "reasoning", "summary": None}]
    async with serve(rest=True, scorers={"helpful": fake_scorer(Blank())}) as served, http_of(served) as http:
        told = (await http.post("/get_reward", json={"query": ["Hi", "blank"], "prompts": [None, None]})).json()
        empty = (await http.post("/verify", json=said)).json()
        blank = (await http.post("/verify", json=rollout("blank"))).json()
    assert told["extra_logs"]["undecided"] == [0, 1]
    assert told["rewards"][1] == -20
    assert (empty["reward"], empty["reward_components"]) == (0, {"safe": 0, "not_refusal": 0, "helpful": 0})
    assert (blank["reward"], blank["mask_sample"]) == (-20, True)
    assert blank["reward_components"]["helpful"] == 0


async def test_single_samples_share_batches() -> None:
    engine, reader = HeldEngine(), HeldReader()
    async with serve(engine, rest=True, scorers={"helpful": reader.scorer()}) as served, http_of(served) as http:

        async def one(number: int) -> float:
            body = {"query": [f"{PROMPT}{'good ' * (number % 3)}{number}"], "prompts": [PROMPT]}
            answer = await http.post("/get_reward", json=body)
            return float(answer.json()["extra_logs"]["helpful"][0])

        asked = [asyncio.create_task(one(number)) for number in range(64)]
        batcher = served.running.rewards._batchers["helpful"]
        async with asyncio.timeout(10):
            while batcher.items != 64:
                await asyncio.sleep(0.005)
        reader.gate.set()
        engine.gate.set()
        assert await asyncio.gather(*asked) == [number % 3 for number in range(64)]
    assert sum(reader.batches) == 64
    assert len(reader.batches) <= 4


async def test_verify_is_the_one_of_guard_rewards() -> None:
    reward = make_reward(model="fake", policy="minimal")
    body = rollout(HARM, [{"role": "user", "content": "Hi"}], task="sums", nested={"a": [1, None]}, _ng_task_index=3)
    refused = rollout("x")
    refused["response"]["output"] = [
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "content": [{"type": "refusal", "refusal": "No."}, {"type": "output_text", "text": "Sorry."}],
        },
    ]
    async with (
        serve(policy=load("minimal"), rest=True, scorers={"helpful": fake_scorer()}) as served,
        http_of(served) as http,
    ):
        told = (await http.post("/verify", json=body)).json()
        other = (await http.post("/verify", json=refused)).json()
    assert {key: told[key] for key in body} == body
    expected = reward.verify(body)
    assert told["reward"] == pytest.approx(expected["reward"])
    assert told["reward_components"] == {"safe": pytest.approx(-4, abs=1e-3), "not_refusal": 0, "helpful": 0}
    assert set(told) == {*body, "reward", "reward_components"}
    assert other["reward"] == pytest.approx(reward.verify(refused)["reward"])


async def test_a_rollout_that_cannot_be_judged_has_the_lowest_reward() -> None:
    broken = rollout("x")
    broken["response"]["output"] = ["text", {"type": "message"}]
    bad = [rollout("breaks score"), rollout("x", [{"role": CANARY, "content": CANARY}]), broken]
    async with serve(BrokenEngine(), rest=True) as served, http_of(served) as http:
        answers = [await http.post("/verify", json=each) for each in bad]
        shapes = [
            await http.post("/verify", json=each)
            for each in (
                {},
                {"responses_create_params": {}, "response": {"output": []}},
                {**rollout("x"), "response": {}},
                {**rollout("x"), "response": {"output": None}},
                rollout("x", None),
            )
        ]
    for body, answer, kind in zip(bad, answers, ("InternalError", "InvalidInput", "InvalidInput"), strict=True):
        told = answer.json()
        assert (answer.status_code, told["reward"]) == (200, -12)
        assert told["reward_components"] == {"safe": 0, "not_refusal": 0}
        assert {key: told[key] for key in body} == body
        assert (told["failure_kind"], told["mask_sample"]) == (f"guard:{kind}", kind == "InternalError")
        assert CANARY not in told["failure_reason"]
    for answer in shapes:
        assert answer.status_code == 422
        assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize("path", PATHS)
def test_bodies_are_bounded_strict_json(http: httpx.Client, path: str) -> None:
    for body in (b"", b"[1]", b'{"query": 1, "query": 2}', b'{"query": NaN}', b'{"query": "\xff"}', b"[" * 100_000):
        assert http.post(path, content=body).status_code in (400, 422)
    for wrong in ({"query": CANARY}, {"query": [CANARY], "prompts": []}, {"query": [CANARY], "prompts": [CANARY] * 2}):
        answer = http.post(path, json=wrong)
        assert answer.status_code in (400, 422) or (path, wrong["prompts"]) == ("/get_reward", [])
        assert CANARY not in answer.text
    large = http.post(path, content=iter([b" " * 1_000_000] * 5))
    assert (large.status_code, http.post(path, json=SOUND[path]).status_code) == (413, 200)
    assert http.get(path).status_code == 405


def test_too_many_rows_are_refused(http: httpx.Client) -> None:
    answer = http.post("/get_reward", json={"query": ["x"] * 257})
    assert (answer.status_code, answer.json()["kind"]) == (413, "TooLarge")


def test_the_formats_are_described(http: httpx.Client) -> None:
    described = http.get("/openapi.json").json()
    assert set(PATHS) <= set(described["paths"])
    assert "GetRewardBody" in described["components"]["schemas"]
    assert "/get_reward, /verify" in http.post("/nowhere").json()["error"]["message"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "content", "text", "output", "role", "input"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(
    body=st.fixed_dictionaries(
        {}, optional={"query": ANY, "prompts": ANY, "responses_create_params": ANY, "response": ANY, "labels": ANY}
    )
)
@pytest.mark.parametrize("path", PATHS)
def test_no_body_is_an_internal_error(http: httpx.Client, path: str, body: Any) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code in (200, 400, 413, 422)
    if answer.status_code == 200 and path == "/get_reward":
        assert len(answer.json()["rewards"]) == len(body["query"])


@pytest.mark.parametrize("path", PATHS)
async def test_keys_overload_and_shutdown_are_answered_as_everywhere(path: str, tmp_path: Path) -> None:
    clear, key = new_key("app", ("moderate",))
    engine = HeldEngine()
    async with (
        serve(
            engine, Limits(queue_windows=1), rest=True, api_keys=write(tmp_path / "keys.yaml", key), api_key=clear
        ) as served,
        http_of(served) as http,
    ):
        assert (await http.post(path, json=SOUND[path])).status_code == 401
        http.headers["x-api-key"] = clear
        first = asyncio.create_task(http.post(path, json=SOUND[path]))
        await served.accepted(1)
        full = await http.post(path, json=SOUND[path])
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        draining = asyncio.create_task(served.running.live.drain())
        await asyncio.sleep(0)
        closed = await http.post(path, json=SOUND[path])
        assert closed.status_code == 503
        engine.gate.set()
        assert (await first).status_code == 200
        await draining


async def test_models_that_only_compare_are_left_out() -> None:
    scorers = {"pair": fake_scorer(FakeReader(pairwise=True)), "helpful": fake_scorer()}
    async with serve(FakeEngine(), rest=True, scorers=scorers) as served, http_of(served) as http:
        told = (await http.post("/get_reward", json={"query": ["good"]})).json()
    assert list(told["extra_logs"]) == ["safe", "not_refusal", "helpful", "undecided"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_caller_that_leaves_leaves_all_queues(path: str) -> None:
    engine, reader = HeldEngine(), HeldReader()
    async with serve(engine, rest=True, scorers={"helpful": reader.scorer()}) as served, http_of(served) as http:
        queues = [served.running.service.batcher, served.running.rewards._batchers["helpful"]]
        with pytest.raises(httpx.ReadTimeout):
            await http.post(path, json=SOUND[path], timeout=0.3)
        async with asyncio.timeout(10):
            while any(queue.items for queue in queues):
                await asyncio.sleep(0.005)
        engine.gate.set()
        reader.gate.set()
        page = (await http.get("/metrics")).text
    assert f'guard_requests_total{{code="499",method="{path}"}} 1.0' in page
    assert "guard_cancelled_total 1.0" in page
