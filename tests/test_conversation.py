"""Messages and conversations: what is accepted, how rows are read, and that no text leaks from either."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conversation import ROLES, Conversation, Example, Message, Target, conversation_from_row
from guard.errors import InvalidInput

CANARY = "kumquat-4711"
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates included


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_kept(role):
    assert (Message(role, "hi").role, Message(role, "").content) == (role, "")


@pytest.mark.parametrize("role", ["User", "", "bot", f"{CANARY}\nuser", None, 1, ["user"], {"user": 1}])
def test_other_roles_are_refused_without_being_shown(role):
    with pytest.raises(InvalidInput, match="allowed: user, assistant, tool, system") as told:
        Message(role, CANARY)
    assert CANARY not in str(told.value)


@pytest.mark.parametrize("content", [None, 1, b"bytes", [CANARY], {"text": CANARY}])
def test_content_that_is_no_text_is_refused(content):
    with pytest.raises(InvalidInput, match=f"message content is {type(content).__name__}") as told:
        Message("user", content)
    assert CANARY not in str(told.value)


@given(TEXT)
def test_content_always_encodes_and_keeps_its_length(text):
    content = Message("user", text).content
    content.encode()
    assert len(content) == len(text)
    assert all(now == then or now == "\ufffd" for now, then in zip(content, text, strict=True))


def test_only_surrogates_are_replaced():
    assert Message("user", "a\ud800b\udfffc \x00 \ufffe \U0001f642").content == "a\ufffdb\ufffdc \x00 \ufffe \U0001f642"


def test_no_repr_shows_text():
    conversation = Conversation((Message("system", CANARY), Message("user", CANARY)))
    example = Example("1", conversation, "safe", None, "made up", "Apache-2.0", "en", "prompt")
    for shown in (repr(conversation), str(conversation), f"{conversation.judged}", repr([conversation]), repr(example)):
        assert CANARY not in shown
        assert f"<{len(CANARY)} characters>" in shown


@pytest.mark.parametrize(
    ("last", "target"),
    [
        ("user", Target.PROMPT),
        ("tool", Target.PROMPT),
        ("system", Target.PROMPT),
        ("assistant", Target.RESPONSE),
    ],
)
def test_the_last_message_is_judged(last, target):
    first, second = Message("assistant", "earlier"), Message(last, "later")
    conversation = Conversation((first, second))
    assert (conversation.judged, conversation.context, conversation.target) == (second, (first,), target)


def test_of_makes_a_prompt_or_a_pair():
    assert Conversation.of("a") == Conversation((Message("user", "a"),))
    assert Conversation.of("a", "b") == Conversation((Message("user", "a"), Message("assistant", "b")))
    assert Conversation.of("", "b").context[0].content == "", "only the judged message must not be empty"


@pytest.mark.parametrize("judged", ["", " ", "\n\t ", "\u3000\u2003\u00a0"])
def test_an_empty_judged_message_is_refused(judged):
    for made in (lambda: Conversation.of(judged), lambda: Conversation.of("prompt", judged)):
        with pytest.raises(InvalidInput, match="judged \\(last\\) message is empty"):
            made()


def test_an_empty_conversation_is_refused():
    with pytest.raises(InvalidInput, match="at least one message"):
        Conversation(())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a"}, Conversation.of("a")),
        ({"prompt": "a", "response": None}, Conversation.of("a")),
        ({"prompt": "a", "response": "b", "label": 7, "id": []}, Conversation.of("a", "b")),
        ({"messages": [{"role": "user", "content": "a", "name": "x"}]}, Conversation.of("a")),
        ({"messages": [{"role": "user", "content": "a"}], "prompt": 7}, Conversation.of("a")),
        (
            {"messages": [{"role": "system", "content": ""}, {"role": "tool", "content": "a"}]},
            Conversation((Message("system", ""), Message("tool", "a"))),
        ),
    ],
)
def test_rows_are_read(row, expected):
    assert conversation_from_row(row) == expected


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (None, "must be a JSON object, not NoneType"),
        ([CANARY], "must be a JSON object, not list"),
        (CANARY, "must be a JSON object, not str"),
        (7, "must be a JSON object, not int"),
        ({}, "needs `messages`, or `prompt`"),
        ({"response": CANARY}, "needs `messages`, or `prompt`"),
        ({"text": CANARY}, "needs `messages`, or `prompt`"),
        ({"prompt": None, "response": CANARY}, "`prompt` is null"),
        ({"prompt": [CANARY]}, "`prompt` must be a string, not list"),
        ({"prompt": 7}, "`prompt` must be a string, not int"),
        ({"prompt": CANARY, "response": {"text": CANARY}}, "`response` must be a string, not dict"),
        ({"prompt": CANARY, "response": False}, "`response` must be a string, not bool"),
        ({"prompt": CANARY, "response": " "}, "is empty"),
        ({"prompt": "\n"}, "is empty"),
        ({"messages": CANARY}, "`messages` must be a list"),
        ({"messages": None, "prompt": CANARY}, "`messages` must be a list"),
        ({"messages": {"role": "user", "content": CANARY}}, "`messages` must be a list"),
        ({"messages": []}, "at least one message"),
        ({"messages": [CANARY]}, "messages[0] must be an object"),
        ({"messages": [{"role": "user", "content": CANARY}, None]}, "messages[1] must be an object"),
        ({"messages": [{"role": "user", "content": CANARY}, {"content": CANARY}]}, "messages[1] must be an object"),
        ({"messages": [{"role": "user", "text": CANARY}]}, "messages[0] must be an object"),
        ({"messages": [{"role": CANARY, "content": CANARY}]}, "unknown message role"),
        ({"messages": [{"role": "user", "content": [CANARY]}]}, "message content is list"),
        ({"messages": [{"role": "user", "content": CANARY}, {"role": "assistant", "content": ""}]}, "is empty"),
    ],
    ids=lambda value: None if isinstance(value, str) else json.dumps(value)[:40],
)
def test_broken_rows_are_refused_without_their_text(row, told):
    with pytest.raises(InvalidInput) as problem:
        conversation_from_row(row)
    assert told in str(problem.value)
    assert CANARY not in str(problem.value)
    assert "\n" not in str(problem.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["messages", "prompt", "response", "role", "content"])


@settings(max_examples=50)
@given(st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON | st.sampled_from(ROLES)))))
def test_any_row_is_read_or_refused(row):
    with contextlib.suppress(InvalidInput):
        assert conversation_from_row(row).judged.content.strip()
