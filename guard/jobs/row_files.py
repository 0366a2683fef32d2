"""Row files (JSONL or Parquet) some thousand rows at a time; a row that is kept stays as it was written."""

from __future__ import annotations

import base64
import codecs
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from guard.errors import DataError, InvalidInput, need

SUFFIXES = (".jsonl", ".ndjson", ".parquet")
ADDED = ("guard_outcome", "guard_p_unsafe", "guard_flagged", "guard_categories")
_SPACE = b" \t\r\n"  # what JSON calls white space


class Shard(Protocol):
    """Consecutive rows, counted from 0."""

    def __len__(self) -> int: ...

    def number(self, index: int) -> int:
        """Where the row lies in its file, from 1: the line, in Parquet the row."""

    def row(self, index: int) -> Mapping[str, Any]:
        """The columns that a conversation is read from. InvalidInput if the row is broken."""

    def raw(self, index: int) -> dict[str, Any]:
        """The whole row as JSON data, broken or not."""

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        """Writes the rows that `added` names, each with the columns ADDED of that JSON object after its own."""


class RowFile(Protocol):
    """A file of rows."""

    def total(self) -> int:
        """About how many rows there are; blank lines count too."""

    def shards(self, size: int) -> Iterator[Shard]:
        """All rows in order, at most `size` at a time. DataError if the file has a column of ADDED already."""

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        """Writes the rows of `parts`, which Shard.write made, as one file."""


def open_rows(path: Path, text_column: str | None = None) -> RowFile:
    """The rows of a file with one of SUFFIXES. DataError if it is damaged or no column of it holds a conversation."""
    return ParquetRows(path, text_column) if path.suffix == ".parquet" else JsonLines(path)


def _taken(where: str, name: str) -> DataError:
    return DataError(f"{where}: has a column `{name}` already, which the filter adds; rename or remove it")


class JsonLines:
    """One JSON object a line, UTF-8, with or without a byte-order mark. Blank lines are no rows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def total(self) -> int:
        with self.path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))

    def shards(self, size: int) -> Iterator[JsonShard]:
        with self.path.open("rb") as file:
            lines = ((number, line.strip(_SPACE)) for number, line in enumerate(_without_mark(file), 1))
            rows = (numbered for numbered in lines if numbered[1])
            while shard := list(itertools.islice(rows, size)):
                yield JsonShard(self.path, shard)

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)


def _without_mark(file: BinaryIO) -> Iterator[bytes]:
    for number, line in enumerate(file):
        yield line if number else line.removeprefix(codecs.BOM_UTF8)


class JsonShard:
    def __init__(self, path: Path, lines: list[tuple[int, bytes]]) -> None:
        self.path = path
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    def number(self, index: int) -> int:
        return self.lines[index][0]

    def row(self, index: int) -> Mapping[str, Any]:
        number, line = self.lines[index]
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError:
            raise InvalidInput("not valid UTF-8") from None
        except (ValueError, RecursionError):  # json's own message may show a character of the text
            raise InvalidInput("not valid JSON") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"a row must be a JSON object, not {type(row).__name__}")
        for name in ADDED:
            if name in row:
                raise _taken(f"{self.path} line {number}", name)
        return row

    def raw(self, index: int) -> dict[str, Any]:
        line = self.lines[index][1]
        try:
            return {"raw": line.decode()}
        except UnicodeDecodeError:
            return {"raw_base64": base64.b64encode(line).decode()}

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        for index, columns in added.items():
            # Not parsed and written anew: that would change numbers, escapes and repeated keys.
            line = self.lines[index][1]
            file.write(line[:-1].rstrip(_SPACE) + b", " + columns[1:].encode() + b"\n")


class ParquetRows:
    """A Parquet file; its columns keep their types. Added: text, float64, list of text, and JSON text."""

    def __init__(self, path: Path, text_column: str | None = None) -> None:
        self.path = path
        self.arrow = need("pyarrow", "data")
        self.parquet = need("pyarrow.parquet", "data")
        try:
            self.file = self.parquet.ParquetFile(path)
        except self.arrow.ArrowException as problem:
            raise DataError(f"{path}: cannot be read as Parquet ({type(problem).__name__})") from None
        names = self.file.schema_arrow.names
        for name in ADDED:
            if name in names:
                raise _taken(str(path), name)
        self.wanted = [n for n in ([text_column] if text_column else ["messages", "prompt", "response"]) if n in names]
        if not self.wanted:
            asked = f"column `{text_column}`" if text_column else "column `messages` or `prompt`"
            raise DataError(f"{path}: has no {asked}; its columns are: {', '.join(names)}. --text-column names another")
        string = self.arrow.string()
        types = (string, self.arrow.float64(), self.arrow.list_(string), string)
        self.added = self.arrow.schema(zip(ADDED, types, strict=True))
        own = self.file.schema_arrow
        self.schema = self.arrow.schema([*own, *self.added], metadata=own.metadata)

    def total(self) -> int:
        return int(self.file.metadata.num_rows)

    def shards(self, size: int) -> Iterator[ParquetShard]:
        first = 1
        try:
            for batch in self.file.iter_batches(batch_size=size):
                yield ParquetShard(self, self.arrow.Table.from_batches([batch]), first)
                first += batch.num_rows
        except (self.arrow.ArrowException, OSError) as problem:  # of the reading: the caller's own do not come here
            raise DataError(f"{self.path}: damaged after row {first - 1} ({type(problem).__name__})") from None

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        with self.parquet.ParquetWriter(file, self.schema) as writer:
            for part in parts:
                writer.write_table(self.parquet.ParquetFile(part).read())


class ParquetShard:
    def __init__(self, rows: ParquetRows, table: Any, first: int) -> None:
        self.rows = rows
        self.table = table
        self.first = first
        self.read = table.select(rows.wanted).to_pylist()

    def __len__(self) -> int:
        return len(self.read)

    def number(self, index: int) -> int:
        return self.first + index

    def row(self, index: int) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.read[index]
        return row

    def raw(self, index: int) -> dict[str, Any]:
        row = self.table.slice(index, 1).to_pylist()[0]
        return {"row": json.loads(json.dumps(row, default=_plain))}

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        arrow, schema = self.rows.arrow, self.rows.schema
        kept = self.table.filter(arrow.array([index in added for index in range(len(self))], arrow.bool_()))
        columns = [json.loads(columns) for columns in added.values()]
        for each in columns:
            each["guard_categories"] = json.dumps(each["guard_categories"])
        new = arrow.Table.from_pylist(columns, schema=self.rows.added)
        self.rows.parquet.write_table(arrow.Table.from_arrays([*kept.columns, *new.columns], schema=schema), file)


def _plain(value: object) -> str:
    """What JSON has no type for: bytes as base64, dates and decimals as they are written."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
