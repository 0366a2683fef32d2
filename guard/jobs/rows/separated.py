"""Rows as CSV or TSV with a header row. An empty cell is no value."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from guard.conversation import ConversationColumns
from guard.errors import DataError, InvalidInput
from guard.jobs.rows.json_lines import absent, taken
from guard.jobs.rows.limits import ROW_BYTES, SHARD_BYTES
from guard.jobs.rows.text_file import lines, open_bytes, open_utf8, too_long

_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as they are escaped
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One row: the line where it begins (from 1), its raw text, and its cells or the error.

    A blank line has neither.
    """

    line: int
    text: str
    cells: list[str]
    problem: str = ""

    @property
    def blank(self) -> bool:
        return not self.cells and not self.problem


def records(file: TextIO, delimiter: str, where: str) -> Iterator[Record]:
    """The rows of a text, the header first. DataError where one is longer than ROW_BYTES."""
    csv.field_size_limit(ROW_BYTES)
    source = _Lines(file, where)
    reader = csv.reader(source, delimiter=delimiter, strict=True)  # else an open quote swallows the following rows
    while True:
        first = source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            message = f"not valid {delimiter!r}-separated text: {problem}"
            yield Record(first, source.text, [], message)
        else:
            yield Record(first, source.text, cells)


class _Lines:
    """The lines of a text, of which those since `begin` are kept."""

    def __init__(self, file: TextIO, where: str) -> None:
        self._lines, self._where = lines(file), where
        self._number = self._length = 0
        self._kept: list[str] = []

    def begin(self) -> int:
        self._kept.clear()
        self._length = 0
        return self._number + 1

    @property
    def text(self) -> str:
        return "".join(self._kept)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, length = next(self._lines)
        self._number += 1
        self._length += length
        if self._length > ROW_BYTES:  # the start of the next row is unknown
            message = too_long(self._length)
            raise DataError(f"{self._where} line {self._number}: {message}; is a quote left open before it?")
        self._kept.append(line if self._number > 1 else line.removeprefix(_BOM))
        return self._kept[-1]


class SeparatedRows:
    def __init__(
        self,
        path: Path,
        delimiter: str,
        columns: ConversationColumns,
        adding: Mapping[str, str] | None = None,
        replacing: bool = False,
    ) -> None:
        self.path, self.delimiter, self.adding, self.replacing = path, delimiter, dict(adding or {}), replacing
        self.where = str(path)
        try:
            with self._open() as file:
                header = next(records(file, delimiter, self.where), None)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
        # The first row may be user text, so no error shows a cell of it.
        if header is None or header.blank:
            raise DataError(f"{path}: has no header; its first line must hold the names of the columns")
        if header.problem:
            raise DataError(f"{path} header: {header.problem}")
        self.header, self.names = header.text, header.cells
        for place, name in enumerate(self.names, 1):
            if (other := self.names.index(name) + 1) < place:
                raise DataError(f"{path}: columns {other} and {place} have the same name; rename one of them")
        if replacing and self.names[-len(self.adding) :] != list(self.adding):
            raise DataError(f"{path}: {absent(self.adding)}")
        for name in self.adding:
            if name in self.names and not replacing:
                raise DataError(f"{path}: {taken(name)}")
        if not set(columns.names).intersection(self.names):
            raise DataError(
                f"{path}: has no column {columns} among the {len(self.names)} of its first row; is that a header? "
                "--text-column names another column to judge"
            )

    def _open(self) -> TextIO:
        return io.TextIOWrapper(open_utf8(self.path, self.where), "utf-8", "surrogateescape", newline="")

    def total(self) -> int:
        with open_bytes(self.path, self.where) as file:
            return max(0, sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1)

    def shards(self, size: int) -> Iterator[SeparatedShard]:
        try:
            with self._open() as file:
                rows = records(file, self.delimiter, self.where)
                next(rows, None)
                shard: list[Record] = []
                held = 0
                for row in rows:
                    if row.blank:
                        continue
                    shard.append(row)
                    held += len(row.text)
                    if len(shard) == size or held >= SHARD_BYTES:
                        yield SeparatedShard(self, shard)
                        shard, held = [], 0
                if shard:
                    yield SeparatedShard(self, shard)
        except OSError as problem:
            raise DataError(f"{self.where}: cannot be read: {problem.strerror or type(problem).__name__}") from None

    def missing(self, names: Iterable[str]) -> str:
        absent = [name for name in names if name not in self.names]
        return f"has no column `{absent[0]}` among the {len(self.names)} of its first row" if absent else ""

    def difference(self, other: SeparatedRows) -> str:
        """The first row may be user text, so no name of a column is shown."""
        if self.names == other.names:
            return ""
        return f"its header names {len(other.names)} columns, not the same {len(self.names)} in the same order"

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        file.write(_encoded(self.header if self.replacing else self.extended(self.header, list(self.adding))))
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)

    def extended(self, text: str, cells: list[str]) -> str:
        """The raw text of a row with more cells."""
        body = text.rstrip("\r\n")
        return body + self._appended(cells, text[len(body) :] or "\n")

    def before(self, text: str, cells: list[str]) -> str:
        """The raw text of a row without the last `cells`, as `extended` wrote them."""
        body = text.rstrip("\r\n")
        tail = self._appended(cells, "")
        if not body.endswith(tail):
            raise InvalidInput(absent(self.adding))
        return body.removesuffix(tail) + text[len(body) :]

    def _appended(self, cells: list[str], end: str) -> str:
        more = io.StringIO()
        csv.writer(more, delimiter=self.delimiter, lineterminator=end).writerow(cells)
        return f"{self.delimiter}{more.getvalue()}"


class SeparatedShard:
    def __init__(self, rows: SeparatedRows, records: list[Record]) -> None:
        self.rows = rows
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def number(self, index: int) -> int:
        return self.records[index].line

    def row(self, index: int) -> Mapping[str, Any]:
        record, names = self.records[index], self.rows.names
        if record.problem:
            raise InvalidInput(record.problem)
        if len(record.cells) != len(names):
            raise InvalidInput(mismatch(len(record.cells), len(names)))
        if _UNDECODED.search(record.text):
            raise InvalidInput("not valid UTF-8")
        if self.rows.replacing:
            self.rows.before(record.text, record.cells[-len(self.rows.adding) :])
        row: dict[str, Any] = {name: cell or None for name, cell in zip(names, record.cells, strict=True)}
        return row

    def raw(self, index: int) -> dict[str, Any]:
        text = self.records[index].text.rstrip("\r\n")
        if _UNDECODED.search(text):
            return {"raw_base64": base64.b64encode(_encoded(text)).decode()}
        return {"raw": text}

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        for index, columns in added.items():
            values = json.loads(columns)
            cells = [_cell(values[name], kind) for name, kind in self.rows.adding.items()]
            record = self.records[index]
            own = self.rows.before(record.text, record.cells[-len(cells) :]) if self.rows.replacing else record.text
            file.write(_encoded(self.rows.extended(own, cells)))


def mismatch(cells: int, names: int) -> str:
    """The message about a row with another number of cells than the header."""
    return f"has {cells} fields, the header names {names}"


def _cell(value: Any, kind: str) -> str:
    if kind == "texts":
        return ",".join(value)
    return json.dumps(value) if kind == "object" else str(value)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
