"""Conversations, the rows that hold them, and labelled examples."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from guard.errors import InvalidInput
from guard.message import ROLES as ROLES
from guard.message import Message as Message
from guard.message import Role as Role
from guard.message import parse_messages as parse_messages
from guard.strict_json import parse

LONGEST = 4 << 20  # characters of a row's conversation; the time and memory of a verdict grow with them


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
    def unjudged(self) -> tuple[str, ...]:
        """What it holds besides text, like `messages[0].content[1]: image_url`; no guard judges it."""
        return tuple(f"messages[{index}].{each}" for index, one in enumerate(self.messages) for each in one.unjudged)

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
    def from_messages(cls, messages: object, name: str = "messages") -> Conversation:
        """The conversation of messages in the format of OpenAI's chat API: see `parse_messages`."""
        return cls(parse_messages(messages, name))


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
