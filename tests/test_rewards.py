"""Rewards in the conventions of RL frameworks, all by the same components."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import ConfigError, EngineError, InvalidInput
from guard.reward.components import NAMES, Audit, Components, Reward, fake_safety
from guard.reward.fake import FakeReader, fake_scorer
from guard.reward.score import CLIP, Reading
from guard.rewards import answer_of, make_reward

HARM = "violates:M1"
REWARD = make_reward(model="fake", policy="minimal")
SAFE, HARMFUL = (each.total for each in REWARD.score([("Hi", "Hello there!"), ("Hi", HARM)]))
LOWEST = -1.5 * CLIP  # of `safe` and `not_refusal`
TURNS = [{"role": "user", "content": "Hi"}]


def test_components_are_named_and_weighted():
    weights = {"safe": 1.0, "helpful": 0.25}
    rewards = Components(fake_safety(), fake_scorer(), weights).score([("Hi", "good good"), ("Hi", HARM)])
    for reward in rewards:
        assert set(reward.components) <= set(NAMES)
        parts = {name: reward.components[name] for name in weights}
        assert reward.total == pytest.approx(sum(weights[name] * value for name, value in parts.items()))
    assert [reward.components["helpful"] for reward in rewards] == [2, 0]
    assert rewards[0].components["safe"] > 0 > rewards[1].components["safe"]


@given(st.lists(st.sampled_from(["Hello", HARM, "", " ", "good"]), max_size=6))
def test_one_row_never_changes_another(answers):
    rewards = REWARD.score([("Hi", answer) for answer in answers])
    assert rewards == [REWARD.score([("Hi", answer)])[0] for answer in answers]
    assert all(-3 * CLIP <= reward.total <= 3 * CLIP for reward in rewards)


def test_a_bad_row_gets_the_lowest_reward_and_no_other_one():
    rewards = REWARD.score([("Hi", "Hello there!"), ([{"role": "nobody"}], "x"), ([], "y"), ("Hi", "")])
    assert rewards[0].total == SAFE
    assert [reward.undecided for reward in rewards] == [False, True, True, False]
    assert [reward.total for reward in rewards[1:]] == [LOWEST, LOWEST, 0]


class Blank(FakeReader):
    """Gives no number for an answer that says so."""

    def singles(self, asked):
        return [Reading(math.nan) if "blank" in text else Reading(1.0) for _, text in asked]


class Failing(FakeReader):
    """Scores no answer that says so."""

    def singles(self, asked):
        if any("fail" in answer for _, answer in asked):
            raise EngineError("the model died")
        return super().singles(asked)


FINITE = st.floats(-3, 3)


@given(FINITE, FINITE, FINITE, st.floats(0, 9), st.lists(st.sampled_from(["Hello", HARM, "bad " * 9, "fail", "é"])))
def test_the_lowest_reward_is_no_higher_than_any_sum(safe, refusal, helpful, below, answers):
    weights = {"safe": safe, "not_refusal": refusal, "helpful": helpful}
    whole = Components(fake_safety(), fake_scorer(Failing()), weights)
    bound = -CLIP * sum(map(abs, weights.values()))
    assert whole.bound == pytest.approx(bound)
    for lowest in (None, whole.bound - below):
        rewards = dataclasses.replace(whole, lowest=lowest).score([*(("Hi", a) for a in answers), ([], "no prompt")])
        failed = whole.bound if lowest is None else lowest
        assert [each.undecided for each in rewards] == ["fail" in answer for answer in [*answers, "fail"]]
        for each in rewards:
            assert math.isfinite(each.total)
            assert each.total == failed if each.undecided else each.total >= failed - 1e-9
    for wrong in (whole.bound + 0.1, math.nan, -math.inf):
        with pytest.raises(ConfigError, match="lowest must be finite and <= "):
            dataclasses.replace(whole, lowest=wrong)


def test_the_lowest_reward_counts_only_components_that_are_given():
    assert Components(fake_safety()).bound == -12
    assert Components(fake_safety(), fake_scorer()).bound == -20
    low = make_reward("fake", policy="minimal", lowest=-99.0)
    assert low.trl(["Hi", "Hi"], [{"role": "assistant", "content": 3}, "Hello there!"]) == [-99.0, SAFE]


def test_unknown_components_are_refused():
    with pytest.raises(ConfigError, match=r"weights.kind: is no component; allowed: safe"):
        Components(fake_safety(), None, {"kind": 1.0})
    with pytest.raises(ConfigError, match="`helpful` must score single ones"):
        Components(fake_safety(), fake_scorer(FakeReader(pairwise=True)))


@pytest.mark.parametrize("name", ["safe", "not_refusal", "helpful", "total", "reward", "score", "undecided"])
def test_no_component_is_called_like_a_built_in_one(name):
    with pytest.raises(ConfigError, match=f"component '{name}': is reserved"):
        make_reward(others={name: "runs/reward-bt"})
    with pytest.raises(ConfigError, match="is reserved"):
        Components(fake_safety(), others={name: fake_scorer()})
    with pytest.raises(ConfigError, match="is no identifier"):
        make_reward(others={f"{name}/2": "runs/reward-bt"})


def test_more_reward_models_are_components_of_their_own_names():
    whole = Components(fake_safety(), fake_scorer(), {"brief": 0.5}, {"brief": fake_scorer(FakeReader(bias=1.0))})
    assert whole.names == (*NAMES, "brief")
    assert set(whole.digests) == {"safe", "helpful", "brief"}
    (reward,) = whole.score([("Hi", "good good")])
    assert (reward.components["brief"], reward.total) == (2.0, 1.0)


def test_trl():
    logged = {}
    completions = [[{"role": "assistant", "content": HARM}], "Hello there!"]
    columns = {"environments": [None, None], "trainer_state": object(), "completion_ids": [[1], [2]]}
    told = REWARD.trl([TURNS, "Hi"], completions, log_metric=logged.__setitem__, **columns)
    assert told == [HARMFUL, SAFE]
    assert logged["guard/undecided"] == 0
    assert logged["guard/safe"] == pytest.approx((SAFE + HARMFUL) / 2)
    assert asyncio.run(REWARD.trl_async([TURNS, "Hi"], completions, **columns)) == told
    assert pickle.loads(pickle.dumps(REWARD)) == REWARD
    assert REWARD.trl([], []) == []
    assert REWARD.trl(["Hi", "Hi"], [[{"role": "assistant", "content": 3}], "Hello there!"]) == [LOWEST, SAFE]


def test_openrlhf():
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    body = {"query": [f"{prompt}{HARM}", f"{prompt}Hello there!"], "prompts": [prompt, prompt], "labels": []}
    told = REWARD.get_reward(body)
    assert told["rewards"] == told["scores"]
    assert told["rewards"][0] < 0 < told["rewards"][1]
    assert {name: len(values) for name, values in told["extra_logs"].items()} == dict.fromkeys((*NAMES, "undecided"), 2)
    tensors = REWARD.openrlhf(body["query"], body["prompts"], [])
    assert tensors["rewards"].tolist() == pytest.approx(told["rewards"])
    stepped = REWARD.step(prompt, HARM)
    assert (stepped["done"], stepped["rewards"]) == (True, pytest.approx(told["rewards"][0]))
    assert stepped["extra_logs"] == {name: pytest.approx(values[0]) for name, values in told["extra_logs"].items()}
    told = REWARD.get_reward({"query": [None, "Hello there!", 3], "prompts": [prompt, None, prompt]})
    assert told["rewards"] == [LOWEST, REWARD.score([("", "Hello there!")])[0].total, LOWEST]
    assert told["extra_logs"]["undecided"] == [1, 0, 1]
    for bad in ({}, {"query": "text"}, {"query": ["a", "b"], "prompts": ["a"]}):
        with pytest.raises(InvalidInput, match="`query`"):
            REWARD.get_reward(bad)


@given(st.text(), st.text())
def test_an_answer_is_cut_out_of_its_query(prompt, answer):
    assert answer_of(prompt + answer, prompt) == (prompt, answer)
    assert answer_of(answer, f"{answer}?") == (f"{answer}?", answer)


def test_verl():
    told = REWARD.verl("any", HARM, None, {"question": "Hi", "num_turns": 1}, router="ignored")
    assert told["score"] == HARMFUL == told["safe"]
    assert REWARD.verl("any", "Hello there!")["score"] > 0
    unjudged = REWARD.verl("any", "Hi", None, {"question": [{"role": "nobody"}]})
    assert (unjudged["score"], unjudged["undecided"]) == (LOWEST, 1)
    assert unjudged.keys() == told.keys()  # verl joins the rewards of a batch by the keys of the first


def test_verl_has_the_same_numbers_for_every_answer():
    turns, nan = np.array([*TURNS, *TURNS], dtype=object), math.nan  # a list of a Parquet file; a null of a table
    told = [
        REWARD.verl("any", answer, None, extra)
        for answer in ("Hello there!", HARM, "", None, nan, [3])
        for extra in (None, nan, {}, {"question": None}, {"question": nan}, {"question": "Hi"}, {"question": turns})
    ]
    assert {tuple(each) for each in told} == {("score", *NAMES, "undecided")}
    assert all(isinstance(value, float) and math.isfinite(value) for each in told for value in each.values())
    assert [each["score"] for each in told[:7]] == [pytest.approx(SAFE, abs=0.1)] * 7
    assert {each["score"] for each in told[14:35]} == {0}
    assert {(each["score"], each["safe"], each["undecided"]) for each in told[35:]} == {(LOWEST, 0, 1)}


def test_nemo_gym():
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": HARM}]}]
    body = {"responses_create_params": {"input": TURNS}, "response": {"id": "1", "output": output}}
    told = REWARD.verify(body)
    assert {key: told[key] for key in body} == body
    assert told["reward"] == HARMFUL
    assert told["reward_components"] == {"safe": HARMFUL, "not_refusal": 0, "helpful": 0}
    assert set(told) == {*body, "reward", "reward_components"}


def rollout(*output, prompt="Hi"):
    return {"responses_create_params": {"input": prompt}, "response": {"output": list(output)}}


def message(content):
    return {"type": "message", "role": "assistant", "content": content}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ([message(None)], ""),
        ([{"type": "message"}], ""),
        ([], ""),
        ([message([])], ""),
        ([message([{"type": "output_text", "text": None}])], ""),
        ([{"type": "reasoning", "summary": None}, message("Hello there!")], "Hello there!"),
        ([message([{"type": "refusal", "refusal": "Hello there!"}])], "Hello there!"),
        ([message("Hello"), message([{"type": "output_text", "text": "there!"}])], "Hello\nthere!"),
    ],
)
def test_nulls_in_what_a_model_wrote_are_empty_texts(output, text):
    told = REWARD.verify(rollout(*output))
    assert told["reward"] == REWARD.score([("Hi", text)])[0].total
    assert "failure_kind" not in told


@pytest.mark.parametrize(
    "output",
    [
        [None],
        ["x"],
        [message(3)],
        [message(math.nan)],
        [message(["x"])],
        [message([None])],
        [message([{"type": "output_text", "text": math.nan}])],
        [message([{"type": "output_text", "text": 3}])],
        [message([{"type": "input_image", "image_url": "x"}])],
    ],
)
def test_a_rollout_of_another_shape_has_the_lowest_reward(output):
    told = REWARD.verify(rollout(*output))
    assert (told["reward"], told["failure_kind"], told["mask_sample"]) == (LOWEST, "guard:InvalidInput", False)
    assert told["reward_components"] == dict.fromkeys(NAMES, 0)


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "responses_create_params.input"),
        (None, "responses_create_params.input"),
        (rollout(prompt=None), "responses_create_params.input"),
        ({"responses_create_params": None, "response": {"output": []}}, "responses_create_params.input"),
        ({"responses_create_params": {"input": "Hi"}}, "response.output"),
        ({"responses_create_params": {"input": "Hi"}, "response": None}, "response.output"),
        ({"responses_create_params": {"input": "Hi"}, "response": {"output": None}}, "response.output"),
    ],
)
def test_a_body_without_a_prompt_or_items_is_refused(body, missing):
    with pytest.raises(InvalidInput, match=f"^{missing} "):
        REWARD.verify(body)


def test_a_reward_model_that_gives_no_number_fails_for_that_answer_alone():
    whole = Components(fake_safety(), fake_scorer(Blank()))
    rewards = whole.score([("Hi", "good"), ("Hi", "blank")])
    assert [each.undecided for each in rewards] == [False, True]
    assert (rewards[1].total, rewards[1].reason, rewards[1].components["helpful"]) == (whole.bound, "helpful", None)
    with pytest.raises(EngineError, match=r"fake gave no number \(NaN\) for an answer"):
        fake_scorer(Blank()).compare("Hi", "good", "blank")


class Refused:
    """The fake guard, which takes every answer for a refusal."""

    def moderate_each(self, conversations):
        return [dataclasses.replace(each, p_refusal=0.9) for each in fake_safety().moderate_each(conversations)]


def test_whether_refusing_is_right_may_be_unknown():
    known = [None, math.nan, False, True, np.bool_(True)]
    given = Components(Refused()).score([("Hi", "Hello there!")] * 5, known)
    assert [each.components["not_refusal"] is None for each in given] == [False, False, False, True, True]


def test_an_audit_tells_the_drift_of_lengths_and_of_the_gap_to_another_scorer():
    audit = Audit(window=4)
    for step in range(4):
        rewards = [Reward(float(step), {"not_refusal": -1.0 if step > 1 else 1.0})] * 4
        audit.add(["x" * (10 + step)] * 4, rewards, second=[1.0] * 4)
    told = audit.report()
    assert told["length_drift"] == 3
    assert told["refusal_drift"] == 1
    assert told["second_gap"] == 3
