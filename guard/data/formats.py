"""File formats: a raw file as records, which are plain fields with the place they were read from."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guard import schema
from guard.data import workbook
from guard.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "json", "yaml", "lines", "first_column"]


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """The native fields of one row, read from row `number` (from 1) of the file `where`."""

    fields: dict[str, Any]
    where: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.where} row {self.number}"

    def text(self, name: str) -> str:
        """The text of a field; DataError if the record has it not, or as anything but text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            kind = type(value).__name__ if name in self.fields else "missing"
            raise DataError(f"{self.place}: field `{name}` must be text; it is {kind}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """The object in a field; DataError if it holds anything else."""
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise DataError(f"{self.place}: must hold a JSON object, not {type(value).__name__}")
        return value


def read(
    path: Path, where: str, format: Format, at: str | None = None, encoding: str = "utf-8", undecodable: str = "strict"
) -> Iterator[Record]:
    """The records of a file, which errors call `where`. `at` names the key that holds the list in a JSON object.

    DataError if the file is missing, not in `encoding`, or broken; it names the file and the row.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise DataError(f"{where}: cannot be read: {problem.strerror}") from None
    if path.suffix == ".xlsx":
        for number, cell in workbook.first_column(raw, where):
            yield Record({"text": cell}, where, number)
        return
    try:
        text = raw.decode(encoding, undecodable).removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: byte {problem.start} is not {encoding}; is the file damaged?") from None
    if format == "yaml":
        yield Record({"value": schema.parse(text, where)[0]}, where, 1)
    elif format == "json":
        yield from _json(text, where, at)
    else:
        yield from _READERS[format](text, where)


def _separated(delimiter: str) -> Callable[[str, str], Iterator[Record]]:
    def read(text: str, where: str) -> Iterator[Record]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        number = 0
        try:
            header = _distinct(next(rows, []))
            for number, row in enumerate(rows, 1):
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{where} row {number}: has {len(row)} fields, the header names {len(header)}")
                yield Record(dict(zip(header, row, strict=True)), where, number)
        except csv.Error as problem:
            raise DataError(f"{where} row {number + 1}: not valid {delimiter!r}-separated text: {problem}") from None

    return read


def _distinct(header: list[str]) -> list[str]:
    """Column names with `#2`, `#3` … after a name that repeats, so that no column is lost."""
    seen: Counter[str] = Counter()
    names = []
    for name in header:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _first_column(text: str, where: str) -> Iterator[Record]:
    """The first cell of each csv row, without a header; rows longer than the first one are broken and left out."""
    rows = csv.reader(io.StringIO(text, newline=""))
    width = None
    try:
        for number, row in enumerate(rows, 1):
            width = len(row) if width is None else width
            if row and len(row) <= width:
                yield Record({"text": row[0]}, where, number)
    except csv.Error as problem:
        raise DataError(f"{where}: not valid csv text: {problem}") from None


def _jsonl(text: str, where: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            raise DataError(f"{where} row {number}: not valid JSON") from None
        yield Record(_object(value, where, number), where, number)


def _lines(text: str, where: str) -> Iterator[Record]:
    for number, line in enumerate(text.splitlines(), 1):
        yield Record({"text": line}, where, number)


def _json(text: str, where: str, at: str | None) -> Iterator[Record]:
    try:
        value = json.loads(text)
    except ValueError as problem:
        line = getattr(problem, "lineno", 1)
        raise DataError(f"{where}: not valid JSON at line {line}") from None
    if at is not None:
        if not isinstance(value, dict) or at not in value:
            raise DataError(f"{where}: must be a JSON object with the key `{at}`")
        value = value[at]
    if not isinstance(value, list):
        yield Record({"value": value}, where, 1)  # one nested value: a named reader takes it apart
        return
    for number, item in enumerate(value, 1):
        fields = {"text": item} if isinstance(item, str) else _object(item, where, number)
        yield Record(fields, where, number)


def _object(value: object, where: str, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} row {number}: must be a JSON object, not {type(value).__name__}")
    return value


_READERS: dict[str, Callable[[str, str], Iterator[Record]]] = {
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "jsonl": _jsonl,
    "lines": _lines,
    "first_column": _first_column,
}
