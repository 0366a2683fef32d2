"""Rows of users' own files: their conversation is read as every command reads it, and kept as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from guard.conversation import Conversation, ConversationColumns, Message, Role, Target, messages_from_row
from guard.data.sources.description import Source
from guard.data.sources.fields import value_at
from guard.data.sources.formats import Record
from guard.errors import InvalidInput
from guard.message import text_only

TABLES = ("csv", "tsv", "xlsx")  # formats in which an empty cell is no value
Turns = tuple[tuple[Role, str], ...]


class Texts(NamedTuple):
    """The texts of a `guard.data.row.Row`."""

    prompt: str
    response: str | None
    turns: Turns
    rejected: str | None = None

    @classmethod
    def of(cls, turns: Turns, response: str | None = None, rejected: str | None = None) -> Texts:
        """Of the turns before the response, or all of them where there is none."""
        prompt = "\n\n".join(content for _, content in turns)
        alone = bool(prompt.strip()) and turns == (("user", prompt),)
        return cls(prompt, response, () if alone else turns, rejected)


def texts_of(source: Source, record: Record) -> Texts:
    """The texts of a record. InvalidInput where they are broken, or what is judged is empty."""
    if source.response is not None and source.rejected is not None:
        chosen, rejected = (_answer(source, record, text.fields[0]) for text in (source.response, source.rejected))
        return Texts.of(_turns(_messages(source, record, None)), chosen, rejected)
    response = None if source.response is None else source.response.fields[0]
    conversation = Conversation(_messages(source, record, response))
    if conversation.target is Target.RESPONSE:
        return Texts.of(_turns(conversation.context), conversation.judged.content)
    return Texts.of(_turns(conversation.messages))


def _messages(source: Source, record: Record, response: str | None) -> tuple[Message, ...]:
    prompt = () if source.prompt is None else source.prompt.fields
    columns = ConversationColumns(source.messages, prompt, response)
    messages = messages_from_row({name: _cell(source, record, name) for name in columns.names}, columns)
    return tuple(text_only(messages))


def _turns(messages: Iterable[Message]) -> Turns:
    return tuple((message.role, message.content) for message in messages)


def _cell(source: Source, record: Record, name: str) -> Any:
    value = value_at(record, name)
    return None if value == "" and source.format in TABLES else value


def _answer(source: Source, record: Record, name: str) -> str:
    value = _cell(source, record, name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"`{name}` must be a string, not {type(value).__name__}")
    if not value or not value.strip():
        raise InvalidInput(f"`{name}` is empty; a pair needs both answers")
    return value
