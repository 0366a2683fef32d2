"""Messages, and the one rule by which messages in OpenAI's formats are rendered as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from guard.errors import InvalidInput

Role = Literal["user", "assistant", "tool", "system"]
ROLES: tuple[Role, ...] = ("user", "assistant", "tool", "system")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROLES: Mapping[str, Any] = {"developer": "system", "function": "tool"}
# The parts of a message by their types, with the key of their text; and those that are known to hold something else.
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_JSON_PART = "input_json"
_OTHER_PARTS = ("image_url", "input_image", "image", "input_audio", "audio", "input_file", "file", "video_url", "video")
_CALLS = {"function": "arguments", "custom": "input"}
# Items of the Responses and Decisions APIs that are no messages: calls with the key of their arguments, and results.
_CALL_ITEMS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULT_ITEMS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn. Lone surrogates are read as U+FFFD, so that content always encodes as UTF-8.

    unjudged: what it holds besides text, like `content[1]: image_url`; the content has `[image_url]` in its place.
    """

    role: Role
    content: str
    unjudged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInput(f"unknown message role ({len(str(self.role))} characters); allowed: {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise InvalidInput(f"message content is {type(self.content).__name__}; it must be a string")
        object.__setattr__(self, "content", _SURROGATE.sub("\ufffd", self.content))

    def __repr__(self) -> str:  # user text never reaches a log or a traceback
        return f"Message(role={self.role!r}, <{len(self.content)} characters>)"


def parse_messages(entries: object, name: str = "messages") -> tuple[Message, ...]:
    """The messages of a list of objects in the format of OpenAI's chat API, or of its Responses and Decisions APIs.

    `content` is a text, null (the same as an empty text), or a list of parts, joined by line breaks. What an assistant
    says besides is part of its message, each on a line of its own: a `refusal`, and the calls of `tool_calls` or
    `function_call` as `name(arguments)`. An item `function_call` or `custom_tool_call` is a message of the assistant,
    its output one of a tool. The role `developer` is read as system, `function` as tool.

    Parts that are known not to be text, such as images, are listed as `unjudged`. Raises InvalidInput for anything
    else, which names the place but never its text.
    """
    if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
        raise InvalidInput(f"`{name}` must be a list of objects with `role` and `content`")
    return tuple(_message(entry, f"{name}[{index}]") for index, entry in enumerate(entries))


def text_only(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages; InvalidInput if they hold anything besides text. For data, of which nothing may be missing."""
    for index, message in enumerate(messages):
        if message.unjudged:
            raise InvalidInput(f"messages[{index}].{message.unjudged[0]} is not text and cannot be judged")
    return messages


def _message(entry: object, where: str) -> Message:
    kind = entry.get("type") if isinstance(entry, Mapping) and "role" not in entry else None
    if isinstance(entry, Mapping) and isinstance(kind, str) and kind in _CALL_ITEMS:
        return _of("assistant", [_call(entry, _CALL_ITEMS[kind], where)])
    if isinstance(entry, Mapping) and isinstance(kind, str) and kind in _RESULT_ITEMS:
        return _of("tool", [*_content(entry.get("output"), where, "output")])
    if not isinstance(entry, Mapping) or "role" not in entry:
        raise InvalidInput(f"{where} must be an object with `role` and `content`")
    pieces = [*_content(entry.get("content"), where, "content"), *_text_under(entry, "refusal", where)]
    pieces += _calls(entry, where)
    if entry.get("audio") is not None:
        pieces.append(_NotText("audio", "audio"))
    if "content" not in entry and not pieces:
        raise InvalidInput(f"{where} has no `content`; give a text, null or a list of parts")
    role: Any = entry["role"]  # Message refuses one that it does not know
    return _of(_ROLES.get(role, role) if isinstance(role, str) else role, pieces)


class _NotText(NamedTuple):
    place: str
    kind: str


_Piece = str | _NotText


def _of(role: Role, pieces: Sequence[_Piece]) -> Message:
    lines = (piece if isinstance(piece, str) else f"[{piece.kind}]" for piece in pieces)
    unjudged = tuple(f"{piece.place}: {piece.kind}" for piece in pieces if isinstance(piece, _NotText))
    return Message(role, "\n".join(filter(None, lines)), unjudged)


def _content(content: object, where: str, key: str) -> Iterator[_Piece]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        for index, part in enumerate(content):
            yield from _part(part, f"{where}.", f"{key}[{index}]")
    elif content is not None:
        raise InvalidInput(f"{where}.{key} is {type(content).__name__}; it must be a string, null or a list of parts")


def _part(part: object, message: str, place: str) -> Iterator[_Piece]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InvalidInput(f"{message}{place} must be an object with `type` and `text`")
    if kind in _TEXT_PARTS:
        yield from _text_under(part, _TEXT_PARTS[kind], f"{message}{place}")
    elif kind == _JSON_PART:
        yield _json(part.get("data"), f"{message}{place}.data")
    elif kind in _OTHER_PARTS:
        yield _NotText(place, kind)
    else:
        allowed = ", ".join((*_TEXT_PARTS, _JSON_PART, *_OTHER_PARTS))
        raise InvalidInput(f"{message}{place} is of an unknown type ({len(kind)} characters); allowed: {allowed}")


def _calls(entry: Mapping[str, Any], where: str) -> Iterator[str]:
    calls = entry.get("tool_calls")
    if calls is not None and (isinstance(calls, str | bytes) or not isinstance(calls, Sequence)):
        raise InvalidInput(f"{where}.tool_calls must be a list, not {type(calls).__name__}")
    for index, call in enumerate(calls or ()):
        place = f"{where}.tool_calls[{index}]"
        kinds = [kind for kind in _CALLS if isinstance(call, Mapping) and call.get(kind) is not None]
        if len(kinds) != 1:
            raise InvalidInput(f"{place} must be an object with one of: {', '.join(_CALLS)}")
        yield _call(call[kinds[0]], _CALLS[kinds[0]], f"{place}.{kinds[0]}")
    if entry.get("function_call") is not None:
        yield _call(entry["function_call"], "arguments", f"{where}.function_call")


def _call(call: object, payload: str, where: str) -> str:
    if not isinstance(call, Mapping):
        raise InvalidInput(f"{where} must be an object with `name` and `{payload}`, not {type(call).__name__}")
    arguments = call.get(payload)
    if isinstance(arguments, Mapping | list):  # as chat templates take them
        arguments = _json(arguments, f"{where}.{payload}")
    if not isinstance(arguments, str | None):
        raise InvalidInput(f"{where}.{payload} must be a string or an object, not {type(arguments).__name__}")
    return call_text("".join(_text_under(call, "name", where)), arguments or "")


def call_text(name: str, arguments: str) -> str:
    """The text of a tool call, which is a line of its message."""
    return f"{name}({arguments})"


def _json(value: object, where: str) -> str:
    if not isinstance(value, Mapping | list):
        raise InvalidInput(f"{where} must be an object or a list, not {type(value).__name__}")
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{where} is nested too deeply") from None


def _text_under(entry: Mapping[str, Any], key: str, where: str) -> Iterator[str]:
    """The text of a key, if there is one."""
    text = entry.get(key)
    if isinstance(text, str):
        yield text
    elif text is not None:
        raise InvalidInput(f"{where}.{key} must be a string, not {type(text).__name__}")
