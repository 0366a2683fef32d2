"""Whole completions: what is judged of them, and what takes the place of what is not shown."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from guard.conversation import Conversation, Message
from guard.errors import ServiceError
from guard.message import parse_messages

FILTERED = "content_filter"
# What of a message is judged, and passes with its verdict; other fields, such as a model's reasoning, are not judged.
CALLS = {"function": "arguments", "custom": "input"}  # the kinds of tool calls, with the key of what they send
JUDGED = ("role", "content", "refusal", "tool_calls", "function_call", "audio")


class UpstreamError(ServiceError):
    """The model's server sent something that is no completion."""


def replies(completion: Mapping[str, Any], context: Sequence[Message]) -> list[Conversation | None]:
    """The conversation that each choice of a completion ends; None for one without a visible character.

    Raises UpstreamError where it is no completion.
    """
    choices = completion.get("choices")
    if not isinstance(choices, list) or not all(isinstance(each, Mapping) for each in choices):
        raise UpstreamError("the upstream's answer is no chat completion: it has no list of `choices`")
    found: list[Conversation | None] = []
    for choice in choices:
        given = choice.get("message")
        if not isinstance(given, Mapping):
            raise UpstreamError("the upstream's answer is no chat completion: a choice has no `message`")
        (message,) = parse_messages([{"content": None, **given, "role": "assistant"}], "choices")
        found.append(Conversation((*context, message)) if message.content.strip() else None)
    return found


def only_judged(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The completion without the fields of its choices that are not judged."""
    return {**completion, "choices": [_only_judged(choice) for choice in completion["choices"]]}


def _only_judged(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = {key: value for key, value in choice["message"].items() if key in JUDGED}
    if message.get("tool_calls"):
        message["tool_calls"] = [judged_call(call) for call in message["tool_calls"]]
    kept = {key: choice[key] for key in ("index", "finish_reason", "stop_reason") if key in choice}
    # Of what was left out, log-probabilities would show the tokens.
    complete = len(message) == len(choice["message"])
    return {**kept, "message": message, "logprobs": choice.get("logprobs") if complete else None}


def judged_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call, or a piece of one, with nothing but what is judged of it."""
    kept = {key: call[key] for key in ("index", "id", "type") if key in call}
    for kind, payload in CALLS.items():
        if isinstance(call.get(kind), Mapping):
            kept[kind] = {key: call[kind][key] for key in ("name", payload) if key in call[kind]}
    return kept


def refused(choice: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A choice whose message is not shown."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": choice.get("index", 0), "message": message, "finish_reason": FILTERED, "logprobs": None}


def refusal(model: str, choices: int, text: str) -> dict[str, Any]:
    """The completion in place of that to a prompt that was not forwarded."""
    return {
        "id": f"chatcmpl-guard-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [refused({"index": index}, text) for index in range(choices)],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def as_chunks(completion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A refusal as the chunks of a stream."""
    head = {**{key: completion[key] for key in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    chunks = []
    for choice in completion["choices"]:
        delta = {"role": "assistant", "content": choice["message"]["content"]}
        for part, reason in ((delta, None), ({}, FILTERED)):
            chunks.append({**head, "choices": [{"index": choice["index"], "delta": part, "finish_reason": reason}]})
    return chunks
