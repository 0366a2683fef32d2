"""Bodies of requests: bounded, strict JSON, validated; errors name the place and never the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from guard.errors import InvalidInput, nearest
from guard.strict_json import parse as parse_json

Sent = TypeVar("Sent", bound=BaseModel)
_SHOWN = 5  # mistakes that an error lists
_LONE = re.compile("[\ud800-\udfff]")
_MESSAGES = {
    "missing": "is missing",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
}


def parse(data: bytes, kind: type[Sent]) -> Sent:
    """The body as a `kind`. Raises InvalidInput, which lists what is wrong by its place."""
    try:
        text = data.decode()
    except UnicodeDecodeError as problem:
        raise InvalidInput(f"the body is not UTF-8 (byte {problem.start})") from None
    if not text.strip():
        raise InvalidInput("the body is empty; send a JSON object")
    value = parse_json(text, constants=False)
    if not isinstance(value, dict):
        raise InvalidInput(f"the body must be a JSON object, not {_name(value)}")
    if "\\u" in text:
        value = _without_surrogates(value)
    try:
        return kind.model_validate(value)
    except ValidationError as invalid:
        mistakes = [_describe(each, kind) for each in invalid.errors(include_url=False, include_input=False)]
    more = f"; and {len(mistakes) - _SHOWN} more" if len(mistakes) > _SHOWN else ""
    raise InvalidInput("; ".join(dict.fromkeys(mistakes[:_SHOWN])) + more)


def _describe(mistake: Any, kind: type[BaseModel]) -> str:
    known = _fields(kind)
    if mistake["type"] == "extra_forbidden":
        *path, name = mistake["loc"]
        allowed = sorted(known)
        near = nearest(str(name), allowed)
        hint = f"did you mean `{near}`? Known" if near else "known"
        return f"{_place(path, known) or 'the body'} has an unknown field ({len(str(name))} characters); {hint}: " + (
            ", ".join(allowed)
        )
    place = _place(mistake["loc"], known) or "the body"
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tags = mistake["ctx"].get("expected_tags")
        return f"{place} must have a known `type`" + (f": {tags}" if tags else "")
    if mistake["type"] in ("too_long", "too_short"):
        bounds = mistake["ctx"]
        bound = f"<= {bounds['max_length']}" if "max_length" in bounds else f">= {bounds['min_length']}"
        return f"{place} has {bounds['actual_length']} items, must be {bound}"
    text = _MESSAGES.get(mistake["type"])
    if text is None:
        # The other messages that our models can raise, about bounds and choices, do not repeat the input.
        text = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{place} {text}"


def _place(path: Iterable[Any], known: frozenset[str]) -> str:
    """The path without keys that only the caller knows, and without the branches of unions."""
    place = ""
    for part in path:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in known:
            place += f".{part}" if place else str(part)
    return place


@cache
def _fields(kind: type[BaseModel]) -> frozenset[str]:
    """The names of all fields of a body, inner ones included."""
    return frozenset(_properties(kind.model_json_schema()))


def _properties(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for inner in schema.values():
            yield from _properties(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _properties(inner)


def _without_surrogates(value: Any) -> Any:
    """The value with U+FFFD in place of lone surrogates, as messages read them: JavaScript cuts pairs in two."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_LONE.sub("\ufffd", key): _without_surrogates(each) for key, each in value.items()}
    return value


def _name(value: object) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
