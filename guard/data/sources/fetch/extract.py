"""Extracts: raw files that keep some rows and fields of upstream files, as JSON lines."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

from guard import schema
from guard.errors import DataError

DIGEST = 8  # hex digits of a line's sha256: enough to tell the lines of one upstream file apart


@dataclass(frozen=True, slots=True)
class Extract:
    """The rule that makes a raw file of JSON lines from upstream files, whose rows are JSON objects.

    `format`: rows are one list (json) or one a line (jsonl), inside the `member` of a zip if that is given. `keep`: the
    values that a field must have. `fields`: written in this order, where a row has them. `stem`: a field added last,
    the upstream file's name without its ending. `picks`: by upstream file, the digests of the lines taken, in order.
    """

    __pydantic_config__ = schema.STRICT

    format: Literal["json", "jsonl"]
    limit: int  # bytes that an upstream file, and a member of it, may have at most
    fields: tuple[str, ...]
    member: str | None = None
    keep: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    stem: str | None = None
    picks: dict[str, str] = dataclasses.field(default_factory=dict)


def extract(rule: Extract, upstream: BinaryIO, path: str) -> bytes:
    """The lines of the raw file that come from the upstream file at `path`; DataError names it if it does not fit."""
    lines = [
        _line(rule, row, path)
        for row in _rows(rule, upstream, path)
        if all(row.get(field) in values for field, values in rule.keep.items())
    ]
    if rule.picks:
        lines = _picked(lines, rule.picks[PurePosixPath(path).name].split(), path)
    try:
        return "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: a row holds half of a surrogate pair, which is no text") from None


def line_digest(line: str) -> str:
    """What `picks` calls a line of the extract (without its line break)."""
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST]


def _line(rule: Extract, row: dict[str, Any], path: str) -> str:
    chosen = {field: row[field] for field in rule.fields if field in row}
    if rule.stem is not None:
        chosen[rule.stem] = PurePosixPath(path).stem
    return json.dumps(chosen, ensure_ascii=False)


def _picked(lines: list[str], digests: list[str], path: str) -> list[str]:
    known = {line_digest(line): line for line in lines}
    if missing := [digest for digest in digests if digest not in known]:
        raise DataError(
            f"{path}: {len(missing)} of the {len(digests)} described rows are missing (first: {missing[0]})"
        )
    return [known[digest] for digest in digests]


def _rows(rule: Extract, upstream: BinaryIO, path: str) -> Iterator[dict[str, Any]]:
    data = _content(rule, upstream, path)
    try:
        text = data.decode("utf-8-sig")
        rows = json.loads(text) if rule.format == "json" else [json.loads(line) for line in text.split("\n") if line]
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is not the {rule.format.upper()} in UTF-8 that was described") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a list of rows, not {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path} row {number}: must be a JSON object, not {type(row).__name__}")
        yield row


def _content(rule: Extract, upstream: BinaryIO, path: str) -> bytes:
    upstream.seek(0)
    if rule.member is None:
        return upstream.read()
    try:
        with zipfile.ZipFile(upstream) as archive, archive.open(rule.member) as member:
            data = member.read(rule.limit + 1)
    except KeyError:
        raise DataError(f"{path}: the archive has no file {rule.member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as problem:
        raise DataError(f"{path}: {rule.member} cannot be unpacked ({type(problem).__name__})") from None
    if len(data) > rule.limit:
        raise DataError(f"{path}: {rule.member} has more than the {rule.limit} bytes that are allowed")
    return data
