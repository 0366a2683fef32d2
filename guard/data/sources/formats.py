"""File formats: a raw file as records, which are plain fields with the location they were read from.

Files are streamed, except for json and yaml. A text file may be compressed (`rows.jsonl.gz`).
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from guard import document
from guard.data.sources import columnar, workbook
from guard.data.sources.columnar import unique_names
from guard.errors import ConfigError, DataError, InvalidInput
from guard.jobs.rows.separated import mismatch, records
from guard.jobs.rows.text_file import GZIP, lines, open_bytes, too_long
from guard.strict_json import parse

Format = Literal["csv", "tsv", "jsonl", "json", "yaml", "lines", "first_column", "xlsx", "parquet", "arrow"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "lines",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_BINARY = ("xlsx", "parquet", "arrow")  # not text, and not read through gzip
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """The native fields of one row, read from row `number` (from 1) of the file `where`.

    In a workbook, rows have the numbers that the sheet shows; in other files with a header, they are counted after it.
    A record with a `problem` could not be parsed and has no fields.
    """

    fields: dict[str, Any]
    where: str
    number: int
    problem: str = ""

    @property
    def place(self) -> str:
        return f"{self.where} row {self.number}"

    def adding(self, **fields: Any) -> Record:
        """The record with these fields besides, or in place of its own."""
        return replace(self, fields={**self.fields, **fields})

    def entry(self, number: int, fields: object) -> Record:
        """Entry `number` of a nested value: its fields replace the value; the other fields of the record stay."""
        entry = replace(self, number=number, fields={"value": fields})
        kept = {name: value for name, value in self.fields.items() if name != "value"}
        return replace(entry, fields={**kept, **entry.mapping("value")})

    def text(self, name: str) -> str:
        """The text of a field; DataError if it is missing or not a text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            kind = type(value).__name__ if name in self.fields else "missing"
            raise DataError(f"{self.place}: field `{name}` must be text; it is {kind}")
        return value

    def sequence(self, name: str) -> list[Any]:
        """The list in a field; DataError if it holds anything else."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise DataError(f"{self.place}: field `{name}` must hold a list, not {type(value).__name__}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """The JSON object in a field; DataError if it holds anything else."""
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise DataError(f"{self.place}: must hold a JSON object, not {type(value).__name__}")
        return value


def format_of(path: Path) -> Format:
    """The format of a user's file by its suffix; ConfigError lists the supported suffixes."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [GZIP]
    suffix = suffixes[-2:-1] if compressed else suffixes[-1:]
    format = SUFFIXES.get(suffix[0]) if suffix else None
    if format is None or (compressed and format in _BINARY):
        texts = [suffix for suffix, format in SUFFIXES.items() if format not in _BINARY]
        given = "".join(path.suffixes[-2:])[:20] or "none"
        raise ConfigError(
            f"{path}: unknown suffix ({given}); allowed: {', '.join(SUFFIXES)}, and {GZIP} after {', '.join(texts)}"
        )
    return format


def is_known(path: Path) -> bool:
    """Whether a user's file has a supported suffix."""
    return (path.with_suffix("") if path.suffix.lower() == GZIP else path).suffix.lower() in SUFFIXES


def read(
    path: Path, where: str, format: Format, at: str | None = None, encoding: str = "utf-8", undecodable: str = "strict"
) -> Iterator[Record]:
    """The records of a file; errors call it `where`.

    at: the key that holds the list in a JSON object, or the sheet of a workbook (default: the first). DataError, with
    file and row, if the file is missing, not in `encoding`, or broken.
    """
    for record in each(path, where, format, at, encoding, undecodable):
        if record.problem:
            raise DataError(f"{record.place}: {record.problem}")
        yield record


def each(
    path: Path, where: str, format: Format, at: str | None = None, encoding: str = "utf-8", undecodable: str = "strict"
) -> Generator[Record, None, None]:
    """Like `read`, but a row that cannot be parsed is yielded as a record with its problem, and reading continues."""
    try:
        if format == "first_column" and path.suffix == ".xlsx":
            yield from _first_cells(path, where)
        elif format == "xlsx":
            yield from _sheet(path, where, at)
        elif format == "parquet" or format == "arrow":
            yield from _numbered(columnar.rows(path, where, format), where)
        else:
            yield from _text_records(path, where, format, at, encoding, undecodable)
    except UnicodeDecodeError:
        offset = _first_bad_byte(path, where, encoding)
        raise DataError(
            f"{where}: byte {offset} is not {encoding}; is the file damaged, or of another encoding?"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise DataError(f"{where}: cannot be read: {reason}") from None


def _first_bad_byte(path: Path, where: str, encoding: str) -> int:
    """The offset at which decoding fails; a text stream reports only the offset in its own buffer."""
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    with open_bytes(path, where) as file:
        while True:
            chunk = file.read(_CHUNK)
            try:
                decoder.decode(chunk, not chunk)
            except UnicodeDecodeError as error:
                return done - (len(error.object) - len(chunk)) + error.start
            if not chunk:
                return done
            done += len(chunk)


def _text_records(
    path: Path, where: str, format: str, at: str | None, encoding: str, undecodable: str
) -> Iterator[Record]:
    newline = "\n" if format == "jsonl" else ""  # a JSON line may contain other line breaks unescaped
    with io.TextIOWrapper(open_bytes(path, where), encoding, undecodable, newline) as file:
        if file.read(1) != "\ufeff":
            file.seek(0)
        if format == "yaml":
            yield Record({"value": document.parse(file.read(), where)[0]}, where, 1)
        elif format == "json":
            yield from _json(file.read(), where, at)
        else:
            yield from _READERS[format](file, where)


def _numbered(rows: Iterator[dict[str, Any]], where: str) -> Iterator[Record]:
    for number, fields in enumerate(rows, 1):
        yield Record(fields, where, number)


def _separated(delimiter: str) -> Callable[[TextIO, str], Iterator[Record]]:
    def read(file: TextIO, where: str) -> Iterator[Record]:
        rows = records(file, delimiter, where)
        first = next(rows, None)
        if first is not None and first.problem:
            raise DataError(f"{where} header: {first.problem}")
        header = unique_names(first.cells if first else [])
        for number, row in enumerate(rows, 1):
            if row.blank:
                continue
            if row.problem:
                yield Record({}, where, number, row.problem)
            elif len(row.cells) != len(header):
                yield Record({}, where, number, mismatch(len(row.cells), len(header)))
            else:
                yield Record(dict(zip(header, row.cells, strict=True)), where, number)

    return read


def _first_column(file: TextIO, where: str) -> Iterator[Record]:
    """The first cell of each CSV row, without a header; rows longer than the first one are broken and skipped."""
    rows = csv.reader(file)
    width = None
    try:
        for number, row in enumerate(rows, 1):
            width = len(row) if width is None else width
            if row and len(row) <= width:
                yield Record({"text": row[0]}, where, number)
    except csv.Error as error:
        raise DataError(f"{where}: not valid CSV: {error}") from None


def _first_cells(path: Path, where: str) -> Iterator[Record]:
    for number, cells in workbook.rows(path, where):
        if cells[0]:
            yield Record({"text": cells[0]}, where, number)


def _sheet(path: Path, where: str, at: str | None) -> Iterator[Record]:
    """The rows of a sheet below its first non-empty row, the header; empty cells are empty texts."""
    rows = workbook.rows(path, where, at)
    header = unique_names(next((cells for _, cells in rows), []))
    for number, cells in rows:
        if len(cells) > len(header):
            yield Record({}, where, number, f"has {len(cells)} cells, the header names {len(header)}")
        else:
            cells += [""] * (len(header) - len(cells))
            yield Record(dict(zip(header, cells, strict=True)), where, number)


def _jsonl(file: TextIO, where: str) -> Iterator[Record]:
    for number, (line, length) in enumerate(lines(file), 1):
        if not line:
            yield Record({}, where, number, too_long(length))
        elif line.strip():
            try:
                value = parse(line.rstrip())
            except InvalidInput as problem:
                yield Record({}, where, number, str(problem))
            else:
                yield _object(value, where, number)


def _lines(file: TextIO, where: str) -> Iterator[Record]:
    for number, line in enumerate(_split(file), 1):
        yield Record({"text": line}, where, number)


def _split(file: TextIO) -> Iterator[str]:
    """The lines of a file at every line break of `str.splitlines`, which knows more of them than text files do."""
    unfinished: list[str] = []
    while chunk := file.read(_CHUNK):
        while chunk.endswith("\r") and (after := file.read(1)):  # the line feed of a CRLF may follow
            chunk += after
        first, *others = (chunk + "x").splitlines()
        if others:
            yield "".join([*unfinished, first])
            yield from others[:-1]
            unfinished, first = [], others[-1]
        unfinished.append(first[:-1])
    if any(unfinished):
        yield "".join(unfinished)


def _json(text: str, where: str, at: str | None) -> Iterator[Record]:
    try:
        value = parse(text)
    except InvalidInput as problem:
        raise DataError(f"{where}: {problem}") from None
    if at is not None:
        if not isinstance(value, dict) or at not in value:
            raise DataError(f"{where}: must be a JSON object with the key `{at}`")
        value = value[at]
    if not isinstance(value, list):
        yield Record({"value": value}, where, 1)  # one nested value, for a named reader
        return
    for number, item in enumerate(value, 1):
        yield _object({"text": item} if isinstance(item, str) else item, where, number)


def _object(value: object, where: str, number: int) -> Record:
    if not isinstance(value, dict):
        return Record({}, where, number, f"must be a JSON object, not {type(value).__name__}")
    return Record(value, where, number)


_READERS: dict[str, Callable[[TextIO, str], Iterator[Record]]] = {
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "jsonl": _jsonl,
    "lines": _lines,
    "first_column": _first_column,
}
