"""Which text of a request is judged, and which keeps it from being forwarded."""

from __future__ import annotations

from typing import Any

import pytest

from guard.chat.prompt import JUDGED, SETTINGS, parse
from guard.errors import InvalidInput

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "send_mail",
        "description": "Sends kumquat mail.",
        "parameters": {"type": "object", "properties": {"to": {"type": "string", "enum": ["ann", "bob"]}}},
    },
}


def judged(**body: Any) -> list[tuple[str, str]]:
    """The last message of each conversation, but for the one that ends the prompt."""
    *before, _ = parse({"model": "m", "messages": HELLO, **body}).conversations
    return [(each.judged.role, each.judged.content) for each in before]


def test_text_beside_the_messages_is_judged_by_itself() -> None:
    assert judged(tools=[TOOL]) == [("system", "send_mail\nSends kumquat mail.\nto\nann\nbob")]
    assert judged(functions=[TOOL["function"]]) == judged(tools=[TOOL])
    schema = {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"title": "what it is"}}}
    assert judged(response_format=schema) == [("system", "reply\nwhat it is")]
    assert judged(prediction={"type": "content", "content": "def f():"}) == [("user", "def f():")]
    assert judged(documents=[{"title": "Bread", "text": "Take flour."}]) == [("tool", "Bread\nTake flour.")]
    assert judged(tool_choice={"type": "function", "function": {"name": "send_mail"}}) == [("system", "send_mail")]


def test_what_says_nothing_is_not_judged() -> None:
    assert judged(response_format={"type": "json_object"}, tool_choice="auto", tools=[]) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_pass(name: str) -> None:
    values = {"n": 1, "stream": True, "moderation": {}}
    assert judged(**{name: values.get(name, "some text")}) == []


@pytest.mark.parametrize("value", [1, 0.5, True, None, [], {}, [1, 2]])
def test_what_holds_no_text_passes_whatever_its_name(value: Any) -> None:
    assert judged(top_k=value, anything=value) == []


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"chat_template": "{{ messages }}"}, "`chat_template` holds text that is not judged"),
        ({"chat_template_kwargs": {"kumquat": True}}, "`chat_template_kwargs`"),
        ({"web_search_options": {"user_location": "here"}}, "`web_search_options`"),
        ({"kumquat": "x"}, r"an unknown field \(7 characters\) holds text"),
        ({"own": {"kumquat": 1}}, r"an unknown field \(3 characters\) holds text"),
        ({"own": [[["deep"]]]}, "leave it out. Judged besides `messages`: tools, functions"),
    ],
)
def test_other_text_is_refused(field: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as problem:
        judged(**field)
    assert "kumquat" not in str(problem.value)
    assert all(f"{name}" in str(problem.value) for name in JUDGED)


def test_what_messages_hold_in_other_fields_is_judged_too() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}", "more": "in a call"}}
    messages = [
        {"role": "user", "content": "hello", "name": "a name"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "I think"},
        {
            "role": "tool",
            "tool_call_id": "1",
            "content": [{"type": "text", "text": "done", "extra": {"b": "in a part"}}],
        },
    ]
    others = parse({"messages": messages}).others
    assert [each.content for each in others] == ["a name", "I think\nin a call", "b\nin a part"]


def test_deep_values_are_read_to_the_bottom() -> None:
    value: Any = "kumquat"
    for _ in range(5000):
        value = [value]
    assert judged(documents=value) == [("tool", "kumquat")]
