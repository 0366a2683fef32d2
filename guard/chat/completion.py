"""Whole completions: what is judged of them, and what takes the place of what is not shown.

Nothing passes but what is judged and what holds no text: fields are chosen by name, so that one that a model's server
adds tomorrow, such as its reasoning, stays behind until it is judged, too.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from guard.conversation import Conversation, Message
from guard.errors import InvalidInput, ServiceError
from guard.message import parse_messages

FILTERED = "content_filter"
CALLS = {"function": "arguments", "custom": "input"}  # the kinds of tool calls, with the key of what they send
_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_TEXT_PARTS = {"text": "text", "output_text": "text", "refusal": "refusal"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class UpstreamError(ServiceError):
    """The model's server sent something that is no completion."""


def choices_of(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of a chunk of a stream. Raises UpstreamError where it is none."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(isinstance(each, Mapping) for each in choices):
        raise UpstreamError("the upstream sent a chunk without a list of `choices`")
    return choices


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
        try:
            (message,) = parse_messages([{"content": None, **given, "role": "assistant"}], "choices")
        except InvalidInput as problem:
            raise UpstreamError(f"the upstream's answer is no chat completion: {problem}") from None
        found.append(Conversation((*context, message)) if message.content.strip() else None)
    return found


def only_judged(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The completion as far as it was judged, or holds no text: without log-probabilities, too, whose alternatives
    nobody judged."""
    made = head(completion) | {"choices": list(map(_only_judged, completion["choices"]))}
    usage = numbers(completion.get("usage"))
    return made if usage is None else {**made, "usage": usage}


def head(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What a completion and its chunks have in common."""
    return {key: sent[key] for key in _HEAD if isinstance(sent.get(key), str | int | None) and key in sent}


def numbers(value: object) -> Any:
    """A tree of numbers with its keys, as far as it is one; None for anything else. Usage is such a tree."""
    if isinstance(value, Mapping):
        kept = {key: numbers(each) for key, each in value.items() if isinstance(key, str) and _NAME.fullmatch(key)}
        return {key: each for key, each in kept.items() if each is not None}
    return value if isinstance(value, int | float) else None


def reason(given: object) -> str:
    """The reason of an end, which is a word of the server's."""
    return given if isinstance(given, str) and _NAME.fullmatch(given) else "stop"


def _only_judged(choice: Mapping[str, Any]) -> dict[str, Any]:
    given = choice["message"]
    message: dict[str, Any] = {"role": "assistant", "content": _only_text(given.get("content"))}
    message["refusal"] = given.get("refusal")
    if given.get("tool_calls"):
        message["tool_calls"] = [judged_call(call) for call in given["tool_calls"]]
    if isinstance(given.get("function_call"), Mapping):
        message["function_call"] = _call(given["function_call"], "arguments")
    index = choice.get("index", 0)
    return {
        "index": index if isinstance(index, int) else 0,
        "finish_reason": None if choice.get("finish_reason") is None else reason(choice["finish_reason"]),
        "message": message,
        "logprobs": None,
    }


def _only_text(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    kinds = ((part, part["type"], _TEXT_PARTS.get(part["type"])) for part in content)
    return [{"type": kind, key: part.get(key)} for part, kind, key in kinds if key is not None]


def judged_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call, or a piece of one, with nothing but what is judged of it."""
    kept = {key: call[key] for key in ("index", "id", "type") if isinstance(call.get(key), str | int)}
    for kind, payload in CALLS.items():
        if isinstance(call.get(kind), Mapping):
            kept[kind] = _call(call[kind], payload)
    return kept


def _call(call: Mapping[str, Any], payload: str) -> dict[str, Any]:
    return {key: call[key] for key in ("name", payload) if key in call}


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
    common = {**{key: completion[key] for key in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    chunks = []
    for choice in completion["choices"]:
        delta = {"role": "assistant", "content": choice["message"]["content"]}
        for part, why in ((delta, None), ({}, FILTERED)):
            chunks.append({**common, "choices": [{"index": choice["index"], "delta": part, "finish_reason": why}]})
    return chunks
