"""The rows that `guard check` judges: one text, or those of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guard.errors import GuardError, InvalidInput

if TYPE_CHECKING:
    from guard.conversation import Conversation

CHUNK = 256
STDIN = "-"


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A row of the input: its id there, and its conversation or the error."""

    line: int
    id: Any
    conversation: Conversation | None
    error: GuardError | None = None

    @property
    def name(self) -> Any:
        """The id, or the line number as text where the row has none."""
        return str(self.line) if self.id is None else self.id


def single_row(text: str) -> Iterator[Row]:
    from guard.conversation import LONGEST, Conversation

    if text == STDIN:
        raw = sys.stdin.buffer.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise InvalidInput(f"standard input is too long: must be <= {LONGEST:,} bytes; split the text")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise InvalidInput(
                f"standard input is not UTF-8 (byte {problem.start}); convert it first, for example with iconv"
            ) from None
    if not text.strip():
        raise InvalidInput("the text is empty; give at least one visible character")
    yield Row(1, None, Conversation.of(text))


def file_rows(file: Path, text_column: str | None) -> Iterator[Row]:
    from guard.conversation import ConversationColumns, conversation_from_row
    from guard.jobs.rows import open_rows

    columns = ConversationColumns.of_text(text_column)
    source = None if str(file) == STDIN else file
    for shard in open_rows(source, columns, also=("id",)).shards(CHUNK):
        for index in range(len(shard)):
            name, line = None, shard.number(index)
            try:
                row = shard.row(index)
                name = row.get("id")
                yield Row(line, name, conversation_from_row(row, columns))
            except InvalidInput as problem:
                yield Row(line, name, None, problem)
