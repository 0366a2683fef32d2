"""Rows as JSONL: one JSON object per line, UTF-8, with or without a byte-order mark. Blank lines are skipped."""

from __future__ import annotations

import base64
import codecs
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from guard.errors import DataError, InvalidInput
from guard.jobs.rows.limits import ROW_BYTES, SHARD_BYTES
from guard.jobs.rows.text_file import lines, open_utf8, too_long
from guard.strict_json import parse

_SPACE = b" \t\r\n"  # what JSON calls white space


class JsonLines:
    """path: None reads standard input, once. replacing: the rows end with the added columns already."""

    def __init__(self, path: Path | None, adding: Iterable[str] = (), replacing: bool = False) -> None:
        self.path, self.adding, self.replacing = path, tuple(adding), replacing
        self.where = "standard input" if path is None else str(path)

    def total(self) -> int:
        with self._open() as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))

    def _open(self) -> Any:
        return nullcontext(sys.stdin.buffer) if self.path is None else open_utf8(self.path, self.where)

    def shards(self, size: int) -> Iterator[JsonShard]:
        try:
            with self._open() as file:
                shard = JsonShard(self)
                for number, (line, length) in enumerate(lines(file), 1):
                    row = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                    # Space before a row stays, so that the columns of its mistakes are those of the file.
                    if row.strip(_SPACE) or length > ROW_BYTES:
                        shard.add(number, row.rstrip(_SPACE), length)
                    if len(shard) == size or shard.bytes >= SHARD_BYTES:
                        yield shard
                        shard = JsonShard(self)
                if len(shard):
                    yield shard
        except OSError as problem:
            raise DataError(f"{self.where}: cannot be read: {problem.strerror or type(problem).__name__}") from None

    def missing(self, names: Iterable[str]) -> str:
        """Each row has its own columns."""
        return ""

    def difference(self, other: JsonLines) -> str:
        """Rows of any columns may follow each other."""
        return ""

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)


class JsonShard:
    def __init__(self, rows: JsonLines) -> None:
        self.rows = rows
        self.lines: list[tuple[int, bytes, int]] = []
        self.bytes = 0

    def add(self, number: int, line: bytes, length: int) -> None:
        self.lines.append((number, line, length))
        self.bytes += len(line)

    def __len__(self) -> int:
        return len(self.lines)

    def number(self, index: int) -> int:
        return self.lines[index][0]

    def row(self, index: int) -> Mapping[str, Any]:
        number, line, length = self.lines[index]
        if length > ROW_BYTES:
            raise InvalidInput(too_long(length))
        try:
            row = parse(line.decode())
        except UnicodeDecodeError:
            raise InvalidInput("not valid UTF-8") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"a row must be a JSON object, not {type(row).__name__}")
        if self.rows.replacing:
            self._before(row, line)
            return row
        for name in self.rows.adding:
            if name in row:
                raise DataError(f"{self.rows.where} line {number}: {taken(name)}")
        return row

    def _before(self, row: Mapping[str, Any], line: bytes) -> bytes:
        """The raw row as far as the columns that were added to it, which it ends with."""
        added = {name: row[name] for name in self.rows.adding if name in row}
        tail = appended(json.dumps(added))
        if len(added) < len(self.rows.adding) or not line.endswith(tail):
            raise InvalidInput(absent(self.rows.adding))
        return line.removesuffix(tail)

    def raw(self, index: int) -> dict[str, Any]:
        _, line, length = self.lines[index]
        if length > ROW_BYTES:
            return {"bytes": length}
        try:
            return {"raw": line.lstrip(_SPACE).decode()}
        except UnicodeDecodeError:
            return {"raw_base64": base64.b64encode(line.lstrip(_SPACE)).decode()}

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        for index, columns in added.items():
            # Not parsed and serialised again, which would change numbers and escapes.
            line = self.lines[index][1].lstrip(_SPACE)
            own = self._before(parse(line.decode()), line) if self.rows.replacing else line[:-1].rstrip(_SPACE)
            file.write(own + appended(columns) + b"\n")


def appended(columns: str) -> bytes:
    """The members of a JSON object as they follow those of a row."""
    return b", " + columns[1:].encode()


def taken(name: str) -> str:
    """The message about a file that already has a column which the caller adds."""
    return f"has a column `{name}` already, which this command adds; rename or remove it"


def absent(names: Iterable[str]) -> str:
    """The message about rows that do not end with the columns which an earlier run adds."""
    return f"does not end with the columns of an earlier run: {', '.join(names)}"
