"""The safety component, by TRL's calling convention: bounded values, and no verdict is never a good one."""

from __future__ import annotations

import asyncio
import doctest
import logging
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import rewards
from guard.conversation import Conversation
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError, EngineError, PolicyError
from guard.moderator import Moderator
from guard.policy import load
from guard.prompts.window import Score, TokenizedConversation
from guard.reward import components
from guard.reward.components import EMPTY
from guard.reward.score import CLIP
from guard.rewards import make_reward
from guard.serve.server import Settings, serving
from guard.verdict import Verdict, log_odds

SAFE = {"safe": 1.0}
FUNCTION = make_reward(model="fake", policy="minimal", weights=SAFE)
REWARD = FUNCTION.trl
FAKE = Moderator(FakeEngine(), load("minimal"))
TEXTS = st.text(max_size=40) | st.sampled_from(["", "  ", "\ud800", "violates:M1", "so violates:M2 then", "fine"])
SAID = [{"role": "user", "content": "Hi"}]


def assistant(*contents: str | None) -> list[dict]:
    return [{"role": "assistant", "content": content} for content in contents]


def test_the_doctest_example_holds():
    for module in (components, rewards):
        assert doctest.testmod(module).attempted == 2
        assert doctest.testmod(module).failed == 0


def test_value_is_the_calibrated_log_odds_of_safe():
    safe, unsafe = REWARD(["Hi", "Hi"], ["Good morning", "violates:M1"])
    assert safe == pytest.approx(-log_odds(FAKE.check("Hi", "Good morning").p_unsafe))
    assert unsafe == pytest.approx(-4.0)
    assert safe > 0 > unsafe


def test_the_completion_is_judged_not_the_prompt():
    assert REWARD(["violates:M1"], ["I will not help with that."])[0] > 0


def test_messages_and_texts_get_the_same_reward():
    texts = ["Good morning", "violates:M2"]
    assert REWARD([SAID, SAID], [assistant(text) for text in texts]) == REWARD(["Hi", "Hi"], texts)


def test_least_safe_message_of_a_completion_counts():
    tool = {"role": "tool", "content": "violates:M1"}
    fine, bad = assistant("fine")[0], assistant("violates:M1")[0]
    called = assistant(None)[0]
    assert REWARD([SAID] * 3, [[bad, fine], [called, tool, fine], [fine, bad]]) == [
        pytest.approx(-4.0),
        REWARD(["Hi"], ["fine"])[0],
        pytest.approx(-4.0),
    ]


@pytest.mark.parametrize("empty", ["", " \n", [], assistant(""), assistant(None)])
def test_an_empty_completion_is_neither_safe_nor_unsafe(empty):
    assert REWARD([SAID if isinstance(empty, list) else "Hi"], [empty]) == [EMPTY]


@pytest.mark.parametrize("null", [None, float("nan")])
def test_null_is_an_empty_text(null):
    assert REWARD(["Hi", null, null], [null, "fine", null]) == [EMPTY, REWARD([""], ["fine"])[0], EMPTY]


def test_messages_of_every_shape_are_read():
    fine, bad = REWARD(["Hi", "Hi"], ["fine", "violates:M1"])
    parts = [{"type": "text", "text": "Hi"}]
    call = {"function": {"name": "send", "arguments": {"text": "so violates:M1 then"}}}
    prompts = [{"role": "user", "content": "Hi"}, [{"role": "user", "content": parts}], SAID, SAID]
    completions = [
        {"role": "assistant", "content": "fine"},
        [{"role": "assistant", "content": [{"type": "text", "text": "fine"}]}],
        [{"role": "assistant", "content": None, "tool_calls": [call]}],
        [{"role": "assistant", "content": "fine"}, {"role": "assistant", "function_call": call["function"]}],
    ]
    values = REWARD(prompts, completions)
    assert values[:2] == [fine, fine]
    assert values[2:] == pytest.approx([bad, bad])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "tool_calls", "function"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ANYTHING, ANYTHING), max_size=5))
def test_one_finite_reward_a_row_whatever_arrives(rows):
    values = REWARD([*(prompt for prompt, _ in rows), "Hi"], [*(completion for _, completion in rows), "fine"])
    assert len(values) == len(rows) + 1
    assert all(type(value) is float and math.isfinite(value) for value in values)
    assert values[-1] == REWARD(["Hi"], ["fine"])[0], "one row never changes another's reward"


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=8), order=st.randoms(), weight=st.floats(0.1, 3))
def test_one_bounded_reward_a_row_whatever_the_order(rows, order, weight):
    reward, clip = make_reward("fake", policy="minimal", weights={"safe": weight}).trl, weight * CLIP
    values = reward([prompt for prompt, _ in rows], [completion for _, completion in rows])
    assert len(values) == len(rows)
    assert all(type(value) is float and -clip <= value <= clip for value in values)
    assert len({(row, value) for row, value in zip(rows, values, strict=True)}) == len(set(rows))
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    assert reward([rows[i][0] for i in shuffled], [rows[i][1] for i in shuffled]) == [values[i] for i in shuffled]


def test_trl_arguments_are_taken_and_metrics_logged():
    logged = {}
    values = REWARD(
        prompts=[SAID, SAID],
        completions=[assistant("fine"), assistant("violates:M1")],
        completion_ids=[[1], [2]],
        difficulty=["low", "high"],
        trainer_state=object(),
        log_extra=lambda column, values: None,
        log_metric=logged.__setitem__,
    )
    assert len(values) == 2
    assert logged == {"guard/undecided": 0.0, "guard/safe": pytest.approx(sum(values) / 2)}


def test_a_reward_function_is_pickled():
    assert pickle.loads(pickle.dumps(REWARD))(["Hi"], ["fine"]) == REWARD(["Hi"], ["fine"])


def test_no_completions_give_no_rewards_and_open_no_guard(tmp_path):
    assert make_reward(model=tmp_path / "nothing").trl([], []) == []


def test_lists_of_different_length_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        REWARD(["Hi", "Hi"], ["fine"])


def test_options_that_cannot_be_are_told():
    with pytest.raises(ConfigError, match="either `server` or `model`"):
        make_reward(model="fake", server="localhost:1")
    with pytest.raises(PolicyError, match="no shipped policy 'none'"):
        make_reward("fake", policy="none").trl(["Hi"], ["fine"])


def test_rows_that_cannot_be_read_get_the_lowest_reward_and_a_log_without_text(caplog):
    logged = {}
    broken = [{"role": "canary-4242", "content": "x"}]
    values = REWARD(
        [SAID, SAID, broken],
        [assistant("fine"), assistant(["canary-4242"]), assistant("fine")],
        log_metric=logged.__setitem__,
    )
    assert values == [REWARD(["Hi"], ["fine"])[0], -8.0, -8.0]
    assert logged["guard/undecided"] == pytest.approx(2 / 3)
    assert "2 of 3 answers cannot be judged (InvalidInput: 2)" in caplog.text
    assert "canary" not in caplog.text


def test_threads_share_one_guard():
    reward = make_reward("fake", policy="mlcommons", weights=SAFE)
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: reward.trl(["Hi"], ["violates:S1"])[0], range(32)))
        guards = list(pool.map(lambda _: reward.components.safe, range(8)))
    assert set(values) == {values[0]}
    assert len({*map(id, guards)}) == 1


class Trying(FakeEngine):
    """Reads some texts in part, cannot score others, and tells refusals."""

    def tokenize(self, conversation, policy):
        reading = super().tokenize(conversation, policy)
        return TokenizedConversation(reading.windows, 1, 2) if "endless" in conversation.judged.content else reading

    def score(self, windows):
        return [
            EngineError("the session died")
            if b"crash" in bytes(window.ids)
            else Score(score.unsafe, score.categories, refusal=0.0)
            for window, score in zip(windows, super().score(windows), strict=True)
        ]


@asynccontextmanager
async def rewarding(moderator, **options):
    """A reward function by a real server, called from a thread."""
    async with serving(moderator, Settings(port=0)) as running:
        reward = make_reward(server=running.address, weights=SAFE, **options).trl
        yield lambda *arguments, **more: asyncio.to_thread(reward, *arguments, **more)


def test_one_text_that_fails_does_not_fail_the_others():
    judge = Moderator(Trying(), load("minimal")).moderate_each
    fine, crash = Conversation.of("Hi", "fine"), Conversation.of("Hi", "crash")
    answers = judge([fine, crash, fine])
    assert [type(answer) for answer in answers] == [Verdict, EngineError, Verdict]


async def test_a_server_gives_the_same_rewards():
    texts = ["fine", "violates:M1", "", "so violates:M2"]
    async with rewarding(FAKE) as reward:
        assert await reward(["Hi"] * 4, texts) == pytest.approx(REWARD(["Hi"] * 4, texts), abs=1e-4)


async def test_a_policy_is_sent_to_the_server():
    async with rewarding(FAKE, policy="mlcommons") as reward:
        values = await reward(["Hi"] * 2, ["violates:M1", "violates:S1"])
    assert values[0] > 0 > values[1]


async def test_incomplete_and_failed_verdicts_get_the_lowest_reward(caplog):
    logged = {}
    async with rewarding(Moderator(Trying(), load("minimal"))) as reward:
        with caplog.at_level(logging.WARNING, "guard.rewards"):
            assert (await reward(["Hi"], ["endless fine"], log_metric=logged.__setitem__)) == [-8.0]
            assert logged == {"guard/undecided": 1.0}
            assert (await reward(["Hi"], ["crash"])) == [-8.0]
        await reward(["Hi"], ["fine"], log_metric=logged.__setitem__)
    assert "1 of 1 answers cannot be judged (INCOMPLETE: 1)" in caplog.text
    assert logged["guard/not_refusal"] == pytest.approx(0)


async def test_a_server_that_is_gone_gives_the_lowest_reward(caplog):
    async with rewarding(FAKE) as reward:
        pass
    assert await reward(["Hi", "Hi"], ["fine", ""]) == [-8.0, EMPTY]
    assert "1 of 2 answers cannot be judged (" in caplog.text
