"""Which columns of a row are judged, and in what parts: a text, a conversation or its turns, the answers of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from guard.conversation import USUAL_COLUMNS, Conversation, ConversationColumns, messages_from_row
from guard.errors import ConfigError, InvalidInput
from guard.message import Message, parse_messages

Turns = Literal["last", "all"]
_ROLES = ("text", "messages", "prompt", "response", "chosen", "rejected")
ANSWERS = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Part:
    """A conversation of a row whose last message is judged. name: which one it is, like `chosen` or `messages[2]`."""

    name: str
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class JudgedColumns:
    """The columns of the conversation and, of preference rows, those of the answers that follow it.

    turns: whether only the last message is judged, or each after those before it. A row with several parts is as unsafe
    as the worst of them.
    """

    conversation: ConversationColumns = USUAL_COLUMNS
    answers: Mapping[str, str] | None = None  # role -> column
    turns: Turns = "last"
    named: tuple[str, ...] = ()  # columns that were named one by one: rows without them would be judged by the others

    def __post_init__(self) -> None:
        if self.turns not in get_args(Turns):
            raise ConfigError(f"unknown turns {self.turns!r}; allowed: {', '.join(get_args(Turns))}")

    @property
    def several(self) -> bool:
        """Whether rows may have more than one part."""
        return self.turns == "all" or self.answers is not None

    @property
    def read(self) -> ConversationColumns:
        """The columns that a file must have one of."""
        usual = self.conversation
        return ConversationColumns(usual.messages, (*usual.prompt, *(self.answers or {}).values()), usual.response)


def parse_columns(mapping: str, turns: Turns = "last") -> JudgedColumns:
    """The columns of a text such as `prompt=question,response=answer`; a role alone names a column like itself.

    ConfigError for an unknown role, or roles that exclude each other.
    """
    named: dict[str, str] = {}
    for entry in filter(None, (each.strip() for each in mapping.split(","))):
        role, _, column = (each.strip() for each in entry.partition("="))
        if role not in _ROLES:
            raise ConfigError(f"columns: unknown role {role!r}; allowed: {', '.join(_ROLES)}, like prompt=question")
        if role in named:
            raise ConfigError(f"columns: {role} is given twice; give one column for each role")
        named[role] = column or role
    if not named:
        return JudgedColumns(turns=turns)
    others = [role for role in named if role != "text"]
    if "text" in named and others:
        raise ConfigError(f"columns: text stands alone, not with {', '.join(others)}")
    answers = {role: named[role] for role in ANSWERS if role in named}
    if answers and "response" in named:
        raise ConfigError("columns: response is not combined with chosen or rejected, which are answers themselves")
    prompt = named.get("text", named.get("prompt"))
    if answers and prompt is None and "messages" not in named:
        return JudgedColumns(ConversationColumns(response=None), answers, turns, tuple(named.values()))
    conversation = ConversationColumns(
        named.get("messages"), () if prompt is None else (prompt,), named.get("response")
    )
    return JudgedColumns(conversation, answers or None, turns, tuple(named.values()))


def parts_of(row: Mapping[str, Any], columns: JudgedColumns) -> list[Part]:
    """The parts of a row, at least one. InvalidInput where there is none or one cannot be judged."""
    if columns.answers is None:
        return _turns("messages", messages_from_row(row, columns.conversation), columns.turns)
    parts: list[Part] = []
    known = any(row.get(name) is not None for name in columns.conversation.names)
    before = messages_from_row(row, columns.conversation) if known else ()
    for role, column in columns.answers.items():
        answer = row.get(column)
        if answer is None:
            raise InvalidInput(f"the row has no value for `{column}`")
        if isinstance(answer, str):
            messages = (*before, Message("assistant", answer))
        else:
            given = parse_messages(answer, column)
            messages = (*before, *given) if given[0].role == "assistant" else given
        parts += _turns(role, messages, columns.turns, single=role)
    return parts


def _turns(name: str, messages: tuple[Message, ...], turns: Turns, single: str = "") -> list[Part]:
    if turns == "last":
        return [Part(single, Conversation(messages))]
    parts = [
        Part(f"{name}[{index}]", Conversation(messages[: index + 1]))
        for index, message in enumerate(messages)
        if message.content.strip()
    ]
    if not parts:
        raise InvalidInput("every message is empty; at least one needs a visible character")
    return parts
