"""Reading: the raw files of a described source, as rows, by its rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard.data import crosswalk as crosswalks
from guard.data import formats, sources
from guard.data.crosswalk import Crosswalk, fold
from guard.data.fingerprint import text_key
from guard.data.formats import Record
from guard.data.readers import READERS
from guard.data.row import Label, Row
from guard.data.sources import Source, Text
from guard.errors import DataError


def records(source: Source, root: Path) -> Iterator[Record]:
    """The records of a source after its named reader, each with the `language` and `part` of its file."""
    raw = _raw_records(source, root)
    yield from READERS[source.reader](raw) if source.reader else raw


def _raw_records(source: Source, root: Path) -> Iterator[Record]:
    folder = sources.home(source, root)
    for file, path in sources.paths(source, root):
        where = path.relative_to(folder).as_posix()
        added = {key: value for key, value in (("language", file.language), ("part", file.part)) if value is not None}
        for record in formats.read(path, where, source.format, source.at, source.encoding, source.undecodable):
            record.fields.update(added)
            yield record


def rows(source: Source, root: Path, table: Crosswalk | None) -> Iterator[Row]:
    """The rows of a source in file order, with repeats but without empty ones; `table` is the source's crosswalk."""
    for record in records(source, root):
        row = _row(source, record, table)
        if row is not None:
            yield row


def _row(source: Source, record: Record, table: Crosswalk | None) -> Row | None:
    prompt = _text(source.prompt, record)
    response = _text(source.response, record) if source.response else None
    if any(not str(_field(record, name) or "").strip() for name in source.require) or not (prompt or response):
        return None
    label = _label(source, record)
    return Row(
        source=source.name,
        kind=source.kind,
        prompt=prompt,
        response=response,
        label=label,
        categories=() if label == "safe" else _categories(source, record, table),
        language=_language(source, record),
        groups=_groups(source, record),
    )


def _field(record: Record, name: str) -> Any:
    """The value at a dotted name such as `instances.0.input`, None if absent."""
    value: Any = record.fields
    for part in name.split(".") if name not in record.fields else [name]:
        if isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _first(record: Record, fields: tuple[str, ...], source: Source) -> tuple[str, Any]:
    for name in fields:
        value = _field(record, name)
        if value is not None:
            return name, value
    raise DataError(f"source {source.name}: {record.place}: has no field {_either(fields)}")


def _either(fields: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in fields)


def _text(text: Text, record: Record) -> str:
    if not any(name in record.fields or name.partition(".")[0] in record.fields for name in text.fields):
        raise DataError(f"{record.place}: has no field {_either(text.fields)}")
    parts = []
    for name in text.fields:
        value = _field(record, name)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None and not isinstance(value, str):
            raise DataError(f"{record.place}: `{name}` must be text, not {type(value).__name__}")
        parts.append(value or "")
    return text.join.join(part for part in parts if part.strip()).strip()


def _label(source: Source, record: Record) -> Label:
    rule = source.label
    if not rule.fields:
        assert rule.otherwise is not None  # LabelRule checks it
        return rule.otherwise
    name, value = _first(record, rule.fields, source)
    for band in rule.bands:
        if band.holds(_number(record, name, value)):
            return band.label
    native = fold(value[0] if isinstance(value, list) and value else value)
    if native in map(fold, rule.unsafe):
        return "unsafe"
    if native in map(fold, rule.safe):
        return "safe"
    if native in map(fold, rule.unlabelled):
        return "unlabelled"
    if rule.otherwise is None:
        raise DataError(
            f"source {source.name}: {record.place}: field `{name}` holds a label ({len(native)} characters) that the "
            f"label rule does not list; it lists: {', '.join((*rule.safe, *rule.unsafe, *rule.unlabelled))}"
        )
    return rule.otherwise


def _number(record: Record, name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise DataError(f"{record.place}: `{name}` must be a number for the bands of the label rule") from None


def _categories(source: Source, record: Record, table: Crosswalk | None) -> tuple[str, ...] | None:
    rule = source.categories
    if rule is None:
        return None
    if table is None:
        return rule.always
    name, value = _first(record, rule.fields, source)
    return crosswalks.translate(table, value if isinstance(value, list) else [value], source.name, name)


def _language(source: Source, record: Record) -> str:
    rule = source.language
    if isinstance(rule, str):
        return rule
    if rule is not None:
        value = _field(record, rule.field)
        if value is not None:
            return rule.names.get(value, str(value).strip().lower())
    language = record.fields.get("language")
    if not isinstance(language, str):
        raise DataError(f"source {source.name}: {record.place}: no language; give it for the source or the file")
    return language


def _groups(source: Source, record: Record) -> tuple[str, ...]:
    if source.group is None:
        return ()
    _, value = _first(record, source.group.fields, source)
    if isinstance(value, list):
        value = value[0] if value else ""
    return (text_key(str(value)),) if source.group.across else (f"{source.name}\x00{value}",)
