"""Turns: what is judged stays what it was, or has a label that follows by itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.conversation import ROLES, Conversation, Example, Message, Target
from guard.train.augment import turns
from guard.train.augment.padding import Pool

POOL = Pool(("When do I prune a fig?", "Moss"), (("Moss", "Water it."),))


def example(*messages, kind="prompt", label="unsafe"):
    conversation = Conversation(tuple(Message(role, text) for role, text in messages))
    return Example("1", conversation, label, frozenset({"S1"}), "s", "l", "en", kind, undecided=frozenset({"S2"}))


@given(st.integers(0, 6), st.integers(0, 2**32))
def test_a_history_is_exchanges_of_the_pool(count, seed):
    made = turns.history(POOL, count, random.Random(seed))
    assert [message.role for message in made] == ["user", "assistant"] * count
    for asked, replied in zip(made[::2], made[1::2], strict=True):
        assert asked.content in POOL.texts
        assert (asked.content, replied.content) in POOL.exchanges or replied.content in turns.REPLIES
    assert turns.history(Pool(), count, random.Random(seed)) == ()


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(min_size=1)), min_size=1).filter(lambda m: m[-1][1].strip()))
def test_earlier_turns_change_nothing_else(messages):
    conversation = example(*messages).conversation
    earlier = turns.history(POOL, 2, random.Random(1))
    made = turns.preceded(conversation, earlier)
    place = made.messages.index(earlier[0])
    assert made.judged == conversation.judged
    assert made.messages[:place] + made.messages[place + len(earlier) :] == conversation.messages
    assert made.messages[place : place + len(earlier)] == earlier
    assert all(message.role == "system" for message in made.messages[:place])
    assert turns.preceded(conversation, ()) == conversation


def test_opening_system_messages_stay_first():
    conversation = example(("system", "Be brief."), ("user", "A")).conversation
    made = turns.preceded(conversation, turns.history(POOL, 1, random.Random(1)))
    assert [message.role for message in made.messages] == ["system", "user", "assistant", "user"]


def test_a_prompt_may_come_from_a_tool_with_the_same_label():
    row = example(("system", "Be brief."), ("user", "A"))
    made = turns.as_tool_output(row)
    assert made.conversation.judged == Message("tool", "A")
    assert made.conversation.context == row.conversation.context
    assert made.conversation.target == Target.PROMPT
    assert (made.label, made.categories, made.kind) == (row.label, row.categories, row.kind)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "user"])
def test_only_a_users_message_becomes_a_tools(role):
    row = example(("user", "A"), (role, "B"))
    assert turns.as_tool_output(row) is row


def test_a_refused_prompt_is_a_safe_response():
    row = example(("user", "A"))
    made = turns.refused(row, "No.")
    assert made.conversation.messages == (Message("user", "A"), Message("assistant", "No."))
    assert (made.label, made.categories, made.undecided, made.kind) == ("safe", frozenset(), frozenset(), "response")
    assert made.conversation.target == Target.RESPONSE
    assert row.label == "unsafe"


@pytest.mark.parametrize(
    "row", [example(("user", "A"), ("assistant", "B"), kind="response"), example(("user", "A"), kind="text")]
)
def test_only_prompts_are_refused(row):
    assert turns.refused(row, "No.") is row
