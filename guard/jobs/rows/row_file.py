"""Files of conversation rows by format; kept rows are copied unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from guard.conversation import USUAL_COLUMNS, ConversationColumns
from guard.errors import ConfigError
from guard.jobs.rows.arrow import ArrowTable
from guard.jobs.rows.json_lines import JsonLines
from guard.jobs.rows.parquet import ParquetTable
from guard.jobs.rows.separated import SeparatedRows
from guard.jobs.rows.table import TableRows
from guard.jobs.rows.text_file import PACKED

Format = Literal["jsonl", "csv", "tsv", "parquet", "arrow"]
Kind = Literal["text", "number", "texts", "object"]
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_TABLES: dict[Format, type[ParquetTable | ArrowTable]] = {"parquet": ParquetTable, "arrow": ArrowTable}


class Shard(Protocol):
    """Consecutive rows, counted from 0."""

    def __len__(self) -> int: ...

    def number(self, index: int) -> int:
        """The position of the row in its file, from 1: the line where it begins, in Parquet the row."""

    def row(self, index: int) -> Mapping[str, Any]:
        """The columns of the row. InvalidInput if it is broken, DataError if it has a column that the caller adds."""

    def raw(self, index: int) -> dict[str, Any]:
        """The whole row as JSON data, broken or not; of one that is too long, its length."""

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        """Writes the rows that `added` names, in order, each with the columns of that JSON object after its own."""


class RowFile(Protocol):
    """A file of rows."""

    def total(self) -> int:
        """About how many rows there are; blank lines count too."""

    def shards(self, size: int) -> Iterator[Shard]:
        """All rows in order, `size` at a time, or fewer where they are long. DataError if the file is damaged."""

    def missing(self, names: Iterable[str]) -> str:
        """Which of the columns no row can have, and which there are; empty if rows may have all."""

    def difference(self, other: Any) -> str:
        """Why the rows of `other`, a file of this format, cannot follow these in one file; empty if they can."""

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        """Writes the rows of `parts`, which Shard.write made, as one file."""


def format_of(path: Path) -> Format:
    """The format of a file by its suffix, before .gz or .zst if it is packed text; JSONL without one, such as
    /dev/stdin.
    """
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    suffix = name.suffix.lower()
    format = SUFFIXES.get(suffix) if suffix else "jsonl"
    if format is None or (format in _TABLES and name is not path):
        text = ", ".join(each for each, known in SUFFIXES.items() if known not in _TABLES)
        tables = ", ".join(each for each, known in SUFFIXES.items() if known in _TABLES)
        raise ConfigError(
            f"{path}: unknown suffix {path.suffix!r}; allowed: {text}, each also with {' or '.join(PACKED)} after it, "
            f"and {tables}"
        )
    return format


def open_rows(
    path: Path | None,
    columns: ConversationColumns = USUAL_COLUMNS,
    also: Iterable[str] | None = (),
    adding: Mapping[str, Kind] | None = None,
    replacing: bool = False,
) -> RowFile:
    """The rows of a file; None: JSONL from standard input, once.

    columns: which hold the conversation. also: others that the caller reads, None for all of them. adding: columns that
    Shard.write will add, with what they hold. replacing: the rows end with these already, which get new values.
    ConfigError for an unknown suffix; DataError if the file is damaged or has a column that is added and, unless it is
    JSONL, if it has two of one name or none that holds a conversation.
    """
    format = "jsonl" if path is None else format_of(path)
    if path is None or format == "jsonl":
        return JsonLines(path, adding or (), replacing)
    if table := _TABLES.get(format):
        selected = None if also is None else [*columns.names, *also]
        return TableRows(path, table(path), columns, selected, adding, replacing)
    return SeparatedRows(path, "," if format == "csv" else "\t", columns, adding, replacing)
