"""Input rows of a judge, and its results."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from guard.conversation import USUAL_COLUMNS, Conversation, ConversationColumns, Message, conversation_from_row
from guard.errors import DataError, InvalidInput
from guard.jobs.rows import as_json
from guard.message import text_only

Task = Literal["label", "compare"]
Status = Literal["kept", "dropped", "broken", "failed"]
# Columns that the judge adds: a row that has one already would lose it.
ADDED: Mapping[Task, tuple[str, ...]] = {
    "label": ("label", "categories", "judge"),
    "compare": ("chosen", "rejected", "margin", "marks", "reason_ab", "reason_ba", "judge"),
}
_COMPARED = ConversationColumns(None, USUAL_COLUMNS.prompt, None)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """A row to judge. `conversation` is labelled, or is the prompt alone; `responses` are compared."""

    id: str
    row: Mapping[str, Any]
    conversation: Conversation
    responses: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        return self.conversation.messages[0].content


@dataclass(frozen=True, slots=True, repr=False)
class Finding:
    """The result of judging a row: `rows` go to the output, `dropped` are judgements that do not."""

    status: Status
    reason: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()
    dropped: tuple[Mapping[str, Any], ...] = ()


def parse_case(row: Mapping[str, Any], task: Task) -> Case:
    """The case of a row. InvalidInput if it is broken, DataError if it has a column that the judge adds.

    The id is the row's own, or the digest of its texts.
    """
    row = writable(row)
    for name in ADDED[task]:
        if name in row:
            raise DataError(f"has a column `{name}`, which the judge adds; rename or remove it")
    conversation, responses = (conversation_from_row(row), ()) if task == "label" else _compared(row)
    text_only(conversation.messages)
    texts = [*(message.content for message in conversation.messages), *responses]
    own = row.get("id")
    if own is not None and (not isinstance(own, str | int) or isinstance(own, bool) or own == ""):
        raise InvalidInput(f"`id` must be text or a whole number, not {type(own).__name__}")
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    return Case(digest if own is None else str(own), row, conversation, responses)


def _compared(row: Mapping[str, Any]) -> tuple[Conversation, tuple[str, ...]]:
    conversation = conversation_from_row(row, _COMPARED)
    responses = [] if row.get("responses") is None else row["responses"]
    if not isinstance(responses, list) or not all(isinstance(each, str) and each.strip() for each in responses):
        raise InvalidInput("`responses` must be a list of non-empty texts")
    return conversation, tuple(Message("assistant", each).content for each in responses)


def writable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as JSON data, dates as text. InvalidInput if it has a number without a JSON form."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(row, allow_nan=False, default=as_json))
    except (ValueError, RecursionError):
        raise InvalidInput("a number is not finite, which JSON cannot represent") from None
    return plain


def line_of(row: Mapping[str, Any]) -> str:
    """The row as a line of JSON that always encodes as UTF-8, without line break."""
    return _SURROGATE.sub("\ufffd", json.dumps(row, ensure_ascii=False))
