"""Messages and conversations: what is accepted, how rows are read, and that no text leaks from either."""

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.conversation import (
    LONGEST,
    ROLES,
    Conversation,
    ConversationColumns,
    Example,
    Message,
    Target,
    conversation_from_row,
    parse_messages,
)
from guard.errors import InvalidInput
from guard.message import text_only

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
        ({"text": "a"}, Conversation.of("a")),
        ({"prompt": None, "text": "a", "messages": None}, Conversation.of("a")),
        ({"prompt": "a", "text": "b"}, Conversation.of("a")),
        ({"prompt": "a", "response": None}, Conversation.of("a")),
        ({"prompt": "a", "response": "b", "label": 7, "id": []}, Conversation.of("a", "b")),
        ({"prompt": "", "response": "b"}, Conversation.of("", "b")),
        ({"prompt": None, "response": "b"}, Conversation.of("", "b")),
        ({"response": "b"}, Conversation.of("", "b")),
        ({"messages": [{"role": "user", "content": "a", "name": "x"}]}, Conversation.of("a")),
        ({"messages": [{"role": "user", "content": "a"}], "prompt": 7}, Conversation.of("a")),
        ({"messages": json.dumps([{"role": "user", "content": "a"}])}, Conversation.of("a")),
        ({"messages": [{"role": "user", "content": "a"}], "response": "b"}, Conversation.of("a", "b")),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "response": "b"},
            Conversation.of("a", "b"),
        ),
        ({"messages": [{"role": "assistant", "content": "b"}]}, Conversation((Message("assistant", "b"),))),
        (
            {"messages": [{"role": "system", "content": ""}, {"role": "tool", "content": "a"}]},
            Conversation((Message("system", ""), Message("tool", "a"))),
        ),
    ],
)
def test_rows_are_read(row, expected):
    assert conversation_from_row(row) == expected


def test_a_row_is_read_by_the_columns_that_are_named():
    row = {"body": " a\n", "prompt": "b", "messages": [], "answer": "c"}
    assert conversation_from_row(row, ConversationColumns.of_text("body")) == Conversation.of(" a\n")
    assert conversation_from_row(row, ConversationColumns(None, ("body",), "answer")) == Conversation.of(" a\n", "c")
    assert ConversationColumns.of_text(None) == ConversationColumns()
    with pytest.raises(InvalidInput, match="the row has no value for `none`"):
        conversation_from_row(row, ConversationColumns.of_text("none"))


def test_a_row_may_not_be_longer_than_can_be_judged():
    with pytest.raises(InvalidInput, match=r"the conversation has 4,194,305 characters, must be <= 4,194,304"):
        conversation_from_row({"prompt": "a" * LONGEST, "response": "b"})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (None, "must be a JSON object, not NoneType"),
        ([CANARY], "must be a JSON object, not list"),
        (CANARY, "must be a JSON object, not str"),
        (7, "must be a JSON object, not int"),
        ({}, "no value for `messages`, `prompt`, `text` or `response`"),
        ({"body": CANARY}, "no value for `messages`, `prompt`, `text` or `response`"),
        ({"prompt": None, "response": None, "messages": None}, "no value for `messages`"),
        ({"prompt": [CANARY]}, "`prompt` must be a string, not list"),
        ({"prompt": 7}, "`prompt` must be a string, not int"),
        ({"prompt": CANARY, "response": {"text": CANARY}}, "`response` must be a string, not dict"),
        ({"prompt": CANARY, "response": False}, "`response` must be a string, not bool"),
        ({"prompt": CANARY, "response": ""}, "is empty"),
        ({"prompt": CANARY, "response": " "}, "is empty"),
        ({"prompt": "\n"}, "is empty"),
        ({"messages": CANARY}, "not valid JSON: Expecting value at column 1"),
        ({"messages": json.dumps(CANARY)}, "`messages` must be a list"),
        ({"messages": {"role": "user", "content": CANARY}}, "`messages` must be a list"),
        ({"messages": '[{"role": "user", "content": "x", "content": "y"}]'}, "an object repeats a key"),
        ({"messages": []}, "at least one message"),
        ({"messages": [CANARY]}, "messages[0] must be an object"),
        ({"messages": [{"role": "user", "content": CANARY}, None]}, "messages[1] must be an object"),
        ({"messages": [{"role": "user", "content": CANARY}, {"content": CANARY}]}, "messages[1] must be an object"),
        ({"messages": [{"role": "user", "text": CANARY}]}, "messages[0] has no `content`"),
        ({"messages": [{"role": CANARY, "content": CANARY}]}, "unknown message role"),
        ({"messages": [{"role": ["user"], "content": CANARY}]}, "unknown message role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content is int; it must be a string"),
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


# -- messages as OpenAI's API has them --------------------------------------------------------------------------------

ARGUMENTS = '{"to": "neighbour"}'
CALL = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "a"}, Message("user", "a")),
        ({"role": "developer", "content": "a"}, Message("system", "a")),
        ({"role": "function", "name": "send", "content": "a"}, Message("tool", "a")),
        ({"role": "user", "content": None}, Message("user", "")),
        ({"role": "user", "content": []}, Message("user", "")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, Message("user", "a")),
        (
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b", "x": 1}]},
            Message("user", "a\nb"),
        ),
        ({"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}, Message("assistant", "a")),
        ({"role": "assistant", "content": None, "refusal": "No."}, Message("assistant", "No.")),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, Message("assistant", "No.")),
        ({"role": "assistant", "tool_calls": [CALL]}, Message("assistant", f"send({ARGUMENTS})")),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, Message("assistant", f"send({ARGUMENTS})")),
        ({"role": "assistant", "content": "", "tool_calls": [CALL]}, Message("assistant", f"send({ARGUMENTS})")),
        (
            {"role": "assistant", "content": "Now.", "tool_calls": [CALL, CALL]},
            Message("assistant", f"Now.\nsend({ARGUMENTS})\nsend({ARGUMENTS})"),
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "send", "arguments": {"to": "näh"}}}]},
            Message("assistant", 'send({"to": "näh"})'),
        ),
        (
            {"role": "assistant", "tool_calls": [{"custom": {"name": "run", "input": "ls"}, "function": None}]},
            Message("assistant", "run(ls)"),
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": None}},
            Message("assistant", "f()"),
        ),
        (
            {"role": "assistant", "content": "a", "tool_calls": None, "function_call": None, "audio": None},
            Message("assistant", "a"),
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": CANARY}]},
            Message("user", "a\n[image_url]", ("content[1]: image_url",)),
        ),
        ({"role": "user", "content": [{"type": "file"}]}, Message("user", "[file]", ("content[0]: file",))),
        ({"role": "assistant", "audio": {"id": CANARY}}, Message("assistant", "[audio]", ("audio: audio",))),
        ({"role": "user", "content": [{"type": "input_json", "data": {"ä": [1]}}]}, Message("user", '{"ä": [1]}')),
        ({"type": "message", "role": "user", "content": "a"}, Message("user", "a")),
        (
            {"type": "function_call", "call_id": "c1", "name": "send", "arguments": ARGUMENTS},
            Message("assistant", f"send({ARGUMENTS})"),
        ),
        ({"type": "custom_tool_call", "name": "run", "input": "ls"}, Message("assistant", "run(ls)")),
        ({"type": "function_call_output", "call_id": "c1", "output": "sent"}, Message("tool", "sent")),
        (
            {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "a"}, {"type": "file"}]},
            Message("tool", "a\n[file]", ("output[1]: file",)),
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_messages_in_the_shape_of_openai_are_read_whole(message, expected):
    assert parse_messages([message]) == (expected,)


def test_a_conversation_is_made_of_such_messages():
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [CALL]}]
    found = Conversation.from_messages(
        [*chat, {"role": "tool", "content": None}, {"role": "assistant", "content": "b"}]
    )
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.judged.content == "b"
    with pytest.raises(InvalidInput, match="is empty"):
        Conversation.from_messages([*chat, {"role": "assistant", "content": None}])


@pytest.mark.parametrize("kind", [[], {}, 7, None, CANARY])
def test_an_item_of_no_known_type_is_refused(kind):
    with pytest.raises(InvalidInput, match="must be an object with `role` and `content`"):
        Conversation.from_messages([{"type": kind, "text": CANARY}])


def test_what_is_not_text_is_listed_with_its_place():
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}
    found = Conversation.from_messages([image, {"role": "assistant", "content": "a", "audio": {"id": CANARY}}])
    assert found.unjudged == ("messages[0].content[0]: image_url", "messages[1].audio: audio")
    assert Conversation.of("a").unjudged == ()
    with pytest.raises(InvalidInput, match=re.escape("messages[0].content[0]: image_url is not text")):
        text_only(found.messages)
    assert text_only(Conversation.of("a").messages) == Conversation.of("a").messages


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"content": [{"type": "input_json", "data": CANARY}]}, "content[0].data must be an object or a list, not str"),
        ({"content": [{"type": CANARY, "text": CANARY}]}, "content[0] is of an unknown type (12 characters)"),
        ({"content": [CANARY]}, "messages[0].content[0] must be an object with `type` and `text`"),
        ({"content": [{"text": CANARY}]}, "messages[0].content[0] must be an object with `type` and `text`"),
        ({"content": [{"type": "text", "text": [CANARY]}]}, "messages[0].content[0].text must be a string, not list"),
        ({"content": {"type": "text", "text": CANARY}}, "messages[0].content is dict"),
        ({"content": CANARY, "refusal": 7}, "messages[0].refusal must be a string, not int"),
        ({"content": CANARY, "tool_calls": CANARY}, "messages[0].tool_calls must be a list, not str"),
        ({"content": CANARY, "tool_calls": [CANARY]}, "tool_calls[0] must be an object with one of: function, custom"),
        ({"content": CANARY, "tool_calls": [{"type": "mcp", "mcp": {"arguments": CANARY}}]}, "must be an object with"),
        ({"content": CANARY, "tool_calls": [{"function": CANARY}]}, "tool_calls[0].function must be an object with"),
        ({"content": CANARY, "tool_calls": [{"function": {"name": 7}}]}, "function.name must be a string, not int"),
        ({"content": CANARY, "function_call": {"arguments": 7}}, "function_call.arguments must be a string or an obj"),
        ({"content": CANARY, "function_call": CANARY}, "function_call must be an object with `name` and `arguments`"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_cannot_be_judged_is_refused_without_its_text(message, told):
    with pytest.raises(InvalidInput) as problem:
        Conversation.from_messages([{"role": "assistant", **message}])
    assert told in str(problem.value)
    assert CANARY not in str(problem.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["messages", "prompt", "response", "text", "role", "content", "type", "tool_calls", "function", "name", "arguments"]
)


@given(st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON | st.sampled_from(ROLES)))))
def test_any_row_is_read_or_refused(row):
    with contextlib.suppress(InvalidInput):
        assert conversation_from_row(row).judged.content.strip()
