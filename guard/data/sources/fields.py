"""Access to the fields of a record by the names that the rules of a description use."""

from __future__ import annotations

from typing import Any

from guard.data.sources.formats import Record
from guard.data.sources.row_rules import Text
from guard.errors import InvalidInput


def value_at(record: Record, name: str) -> Any:
    """The value at a dotted name such as `instances.0.input`, None if absent."""
    value: Any = record.fields
    for part in name.split(".") if name not in record.fields else [name]:
        if isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def first(record: Record, fields: tuple[str, ...]) -> tuple[str, Any]:
    """The first of `fields` that is present, and its value; InvalidInput if none is."""
    for name in fields:
        value = value_at(record, name)
        if value is not None:
            return name, value
    raise InvalidInput(f"has no field {alternatives(fields)}")


def alternatives(fields: tuple[str, ...]) -> str:
    """The names as an error lists them."""
    return " or ".join(f"`{name}`" for name in fields)


def has(text: Text, record: Record) -> bool:
    """Whether the record has any of the text's fields."""
    return any(name in record.fields or name.partition(".")[0] in record.fields for name in text.fields)


def text_of(text: Text, record: Record) -> str:
    """The non-empty texts of the fields, joined; InvalidInput if no field is present, or one is not a text."""
    if not has(text, record):
        raise InvalidInput(f"has no field {alternatives(text.fields)}")
    parts = []
    for name in text.fields:
        value = value_at(record, name)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"`{name}` must be text, not {type(value).__name__}")
        parts.append(value or "")
    return text.join.join(part for part in parts if part.strip()).strip()
