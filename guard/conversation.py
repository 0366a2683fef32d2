"""Messages, conversations and labelled examples."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guard.errors import InvalidInput
from guard.strict_json import parse

Role = Literal["user", "assistant", "tool", "system"]
ROLES: tuple[Role, ...] = ("user", "assistant", "tool", "system")
LONGEST = 4 << 20  # characters of a row's conversation; the time and memory of a verdict grow with them
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROLES: Mapping[str, Any] = {"developer": "system", "function": "tool"}
# The parts of a message by their types, with the key of their text; and those that are known to hold something else.
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_OTHER_PARTS = ("image_url", "input_image", "image", "input_audio", "audio", "input_file", "file", "video_url", "video")
_CALLS = {"function": "arguments", "custom": "input"}


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn. Lone surrogates are read as U+FFFD, so that content always encodes as UTF-8."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInput(f"unknown message role ({len(str(self.role))} characters); allowed: {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise InvalidInput(f"message content is {type(self.content).__name__}; it must be a string")
        object.__setattr__(self, "content", _SURROGATE.sub("\ufffd", self.content))

    def __repr__(self) -> str:  # user text never reaches a log or a traceback
        return f"Message(role={self.role!r}, <{len(self.content)} characters>)"


class Target(enum.Enum):
    """Whose message is judged. Tool output and system text count as input to the model, like a prompt."""

    PROMPT = "prompt"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order; the last one is judged. InvalidInput if there is none or the last one is empty."""

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidInput("a conversation needs at least one message")
        if not self.judged.content.strip():
            raise InvalidInput("the judged (last) message is empty; send at least one visible character")

    @property
    def judged(self) -> Message:
        return self.messages[-1]

    @property
    def context(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def target(self) -> Target:
        return Target.RESPONSE if self.judged.role == "assistant" else Target.PROMPT

    @classmethod
    def of(cls, prompt: str, response: str | None = None) -> Conversation:
        """A single prompt, or a prompt with the response to judge."""
        messages = [Message("user", prompt)]
        if response is not None:
            messages.append(Message("assistant", response))
        return cls(tuple(messages))

    @classmethod
    def from_messages(cls, messages: object) -> Conversation:
        """The conversation of messages in the format of OpenAI's chat API: see `parse_messages`."""
        return cls(parse_messages(messages))


@dataclass(frozen=True, slots=True)
class ConversationColumns:
    """The names of a row's columns that hold its conversation; None where there is no such column.

    Of `prompt` the first one counts that the row has.
    """

    messages: str | None = "messages"
    prompt: tuple[str, ...] = ("prompt", "text")
    response: str | None = "response"

    @classmethod
    def of_text(cls, column: str | None) -> ConversationColumns:
        """The column that holds a bare text to judge; None: the usual columns."""
        return USUAL_COLUMNS if column is None else cls(None, (column,), None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.messages, *self.prompt, self.response) if name is not None)

    def __str__(self) -> str:
        *others, last = (f"`{name}`" for name in self.names)
        return f"{', '.join(others)} or {last}" if others else last


USUAL_COLUMNS = ConversationColumns()


def conversation_from_row(row: object, columns: ConversationColumns = USUAL_COLUMNS) -> Conversation:
    """The conversation of a row, the same for every command: see `messages_from_row`."""
    return Conversation(messages_from_row(row, columns))


def messages_from_row(row: object, columns: ConversationColumns = USUAL_COLUMNS) -> tuple[Message, ...]:
    """The messages of a row: `{"messages": [...]}` (a list or its JSON text), or `{"prompt", "response"?}`.

    A `response` is the last message, also after `messages` that do not end with it; the prompt before it may be empty.
    A null counts as no such column; `messages` take precedence over a prompt; other columns are ignored. Raises
    InvalidInput, which names the column but never its text.
    """
    if not isinstance(row, Mapping):
        raise InvalidInput(f"a row must be a JSON object, not {type(row).__name__}")
    entries = None if columns.messages is None else row.get(columns.messages)
    prompt = next((name for name in columns.prompt if row.get(name) is not None), None)
    response = _text(row, columns.response)
    if isinstance(entries, str):  # a cell of a table
        entries = parse(entries)
    if entries is not None:
        messages = parse_messages(entries, columns.messages or "")
    elif prompt is not None or response is not None:
        messages = (Message("user", _text(row, prompt) or ""),)
    else:
        raise InvalidInput(f"the row has no value for {columns}")
    answer = () if response is None else (Message("assistant", response),)
    messages = messages if messages[-1:] == answer else (*messages, *answer)
    if (characters := sum(len(message.content) for message in messages)) > LONGEST:
        raise InvalidInput(f"the conversation has {characters:,} characters, must be <= {LONGEST:,}")
    return messages


def _text(row: Mapping[str, Any], column: str | None) -> str | None:
    value = None if column is None else row.get(column)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"`{column}` must be a string, not {type(value).__name__}")
    return value


# -- messages in the format of OpenAI's API ---------------------------------------------------------------------------


def parse_messages(entries: object, name: str = "messages") -> tuple[Message, ...]:
    """The messages of a list of objects in the format of OpenAI's chat API.

    `content` is a text, null (the same as an empty text), or a list of parts of text, joined by line breaks. What an
    assistant says besides is part of its message, each on a line of its own: a `refusal`, and the calls of `tool_calls`
    or `function_call` as `name(arguments)`. The role `developer` is read as system, `function` as tool.

    Raises InvalidInput for parts that are not text, such as images: what cannot be judged must not pass as judged.
    """
    if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
        raise InvalidInput(f"`{name}` must be a list of objects with `role` and `content`")
    return tuple(_message(entry, f"{name}[{index}]") for index, entry in enumerate(entries))


def _message(entry: object, where: str) -> Message:
    if not isinstance(entry, Mapping) or "role" not in entry:
        raise InvalidInput(f"{where} must be an object with `role` and `content`")
    if entry.get("audio") is not None:
        raise InvalidInput(f"{where} has `audio`, which is not text and cannot be judged")
    texts = [*_content(entry.get("content"), where), *_text_under(entry, "refusal", where), *_calls(entry, where)]
    if "content" not in entry and not texts:
        raise InvalidInput(f"{where} has no `content`; give a text, null or a list of parts")
    role: Any = entry["role"]  # Message refuses one that it does not know
    return Message(_ROLES.get(role, role) if isinstance(role, str) else role, "\n".join(filter(None, texts)))


def _content(content: object, where: str) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        for index, part in enumerate(content):
            yield from _part(part, f"{where}.content[{index}]")
    elif content is not None:
        raise InvalidInput(f"{where}.content is {type(content).__name__}; it must be a string, null or a list of parts")


def _part(part: object, where: str) -> Iterator[str]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise InvalidInput(f"{where} must be an object with `type` and `text`")
    if kind not in _TEXT_PARTS:
        named = f"`{kind}`" if kind in _OTHER_PARTS else f"of an unknown type ({len(kind)} characters)"
        raise InvalidInput(f"{where} is {named}, which cannot be judged; allowed: {', '.join(_TEXT_PARTS)}")
    yield from _text_under(part, _TEXT_PARTS[kind], where)


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
        try:
            arguments = json.dumps(arguments, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            raise InvalidInput(f"{where}.{payload} is nested too deeply") from None
    if not isinstance(arguments, str | None):
        raise InvalidInput(f"{where}.{payload} must be a string or an object, not {type(arguments).__name__}")
    return f"{''.join(_text_under(call, 'name', where))}({arguments or ''})"


def _text_under(entry: Mapping[str, Any], key: str, where: str) -> Iterator[str]:
    """The text of a key, if there is one."""
    text = entry.get(key)
    if isinstance(text, str):
        yield text
    elif text is not None:
        raise InvalidInput(f"{where}.{key} must be a string, not {type(text).__name__}")


Label = Literal["safe", "unsafe"]
Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled conversation.

    `categories` is None where the source does not say, which is not the same as "none": an unsafe row of unknown
    category says only that some category of the whole policy is violated. `undecided` are codes that the source leaves
    open, though it names others.
    """

    id: str
    conversation: Conversation
    label: Label
    categories: frozenset[str] | None
    source: str
    licence: str
    language: str
    kind: Literal["prompt", "response", "text"]
    split: Split = "train"
    weight: float = 1.0
    undecided: frozenset[str] = frozenset()
