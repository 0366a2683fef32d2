"""Whole replies: nothing passes but what was judged, whatever a server adds, and odd ones are the server's fault."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.chat.completion import UpstreamError, only_judged, replies
from guard.conversation import Message

ASKED = (Message("user", "hello"),)
K = "kumquat"
FULL: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "reasoning": K,
    "citations": [K],
    "system_fingerprint": {"x": K},
    "usage": {"total_tokens": 3, "details": {"cached_tokens": 1, "note": K}, K.upper(): 1, "note": K},
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "stop_reason": K,
            "content_filter_results": {"x": K},
            "logprobs": {"content": [{"token": "hi", "top_logprobs": [{"token": K}]}]},
            "message": {
                "role": K,
                "content": "hi",
                "refusal": None,
                "reasoning_content": K,
                "audio": None,
                "annotations": [{"url": K}],
                "function_call": {"name": "f", "arguments": "{}", "more": K},
                "tool_calls": [
                    {"id": "c", "type": "function", "more": K, "function": {"name": "g", "arguments": "{}", "x": K}}
                ],
            },
        }
    ],
}


def test_only_what_was_judged_passes() -> None:
    made = only_judged(FULL)
    assert K not in f"{made}".lower()
    assert made["usage"] == {"total_tokens": 3, "details": {"cached_tokens": 1}}
    (choice,) = made["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "function_call": {"name": "f", "arguments": "{}"},
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "g", "arguments": "{}"}}],
    }
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)


def test_parts_pass_without_what_is_beside_their_text() -> None:
    content = [{"type": "text", "text": "hi", "more": K}, {"type": "image_url", "image_url": {"url": K}}]
    choice = {"index": 0, "message": {"content": content}, "finish_reason": f"{K} is why"}
    made = only_judged({"choices": [choice]})["choices"][0]
    assert made["message"]["content"] == [{"type": "text", "text": "hi"}]
    assert made["finish_reason"] == "stop"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("content", "refusal", "tool_calls", "function_call", "audio", "role")


@given(JSON, st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_odd_replies_are_the_upstreams_fault(odd: Any, message: dict[str, Any]) -> None:
    """Whatever its shape: it is read and cut to what was judged, or the error says whose it is."""
    for completion in (
        {"choices": odd},
        {"choices": [odd]},
        {"choices": [{"message": odd}]},
        {"choices": [{"message": message}]},
    ):
        try:
            found = replies(completion, ASKED)
        except UpstreamError:
            continue
        assert len(only_judged(completion)["choices"]) == len(found)


@pytest.mark.parametrize("call", [1, {}, {"function": {"name": 1}}, {"function": {}, "custom": {}}])
def test_odd_calls(call: Any) -> None:
    with pytest.raises(UpstreamError, match="is no chat completion: choices"):
        replies({"choices": [{"message": {"content": "hi", "tool_calls": [call]}}]}, ASKED)
