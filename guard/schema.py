"""Plain data to frozen dataclasses; every mistake is reported with file, line, key and what is allowed.

Target classes set `__pydantic_config__ = STRICT`; values are not coerced (`true` is not a number, `"1"` is not an
integer), except that an integer is accepted as a float.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from guard.document import Lines, Location, parse, read_text
from guard.errors import ConfigError, DocumentError, nearest

STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
T = TypeVar("T")
_OVERRIDDEN = 0  # the line of a key that comes from the command line


class Misplaced(ValueError):
    """Raised by a dataclass's own validation; `path` is the key that the mistake is about."""

    def __init__(self, message: str, *path: int | str) -> None:
        super().__init__(message)
        self.path = path


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def convert(
    data: Any, cls: type[T], where: str, lines: Lines | None = None, error: type[DocumentError] = DocumentError
) -> T:
    """`data` (plain: dicts, lists, scalars) as a `cls`; raises `error` with all mistakes, one a line."""
    try:
        # Through JSON, because there pydantic's strict mode still takes an array for a tuple and text for a Path.
        value: T = _adapter(cls).validate_json(json.dumps(data), strict=True)  # type: ignore[arg-type]  # hashable
    except ValidationError as invalid:
        mistakes = [_describe(mistake, cls, where, lines or {}) for mistake in invalid.errors(include_url=False)]
        mistakes.sort(key=lambda mistake: mistake[0])
        raise error("\n".join(dict.fromkeys(message for _, message in mistakes))) from None
    return value


def load(path: Path, cls: type[T], error: type[DocumentError] = DocumentError, overrides: Sequence[str] = ()) -> T:
    """The YAML document at `path` as a `cls`, after the `key=value` assignments of `overrides`."""
    data, lines = parse(read_text(path, error), str(path), error)
    if overrides:
        data = override(data, overrides, str(path))
        for assignment in overrides:
            keys = _keys(assignment)
            lines = {known: line for known, line in lines.items() if known[: len(keys)] != keys}
            lines[keys] = _OVERRIDDEN
    return convert(data, cls, str(path), lines, error)


def override(data: dict[str, Any], assignments: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of `data` with each `a.b=value` set; values follow the same YAML rules (`x=` is null, `x=[1, 2]` a list).

    Raises ConfigError that names every bad assignment.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: only a document of keys and values can be overridden")
    changed = copy.deepcopy(data)
    mistakes = []
    for assignment in assignments:
        try:
            _assign(changed, assignment)
        except ConfigError as mistake:
            mistakes.append(str(mistake))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return changed


def _keys(assignment: str) -> Location:
    return tuple(assignment.partition("=")[0].strip().split("."))


def _assign(data: dict[str, Any], assignment: str) -> None:
    shown = f"override `{assignment[:80]}`"
    keys, (_, equals, text) = _keys(assignment), assignment.partition("=")
    if not equals or not all(keys):
        raise ConfigError(f"{shown}: must look like key=value or section.key=value")
    value = parse(text, shown, ConfigError)[0] if text.strip() else None
    inner = data
    for depth, key in enumerate(keys[:-1], 1):
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{shown}: `{'.'.join(map(str, keys[:depth]))}` holds no keys; set it as a whole")
    inner[str(keys[-1])] = value


_EXPECTED = {
    "dataclass_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "frozen_set_type": "must be a list",
    "string_type": "must be text; put the value in quotes",
}


def _describe(mistake: Any, cls: type, where: str, lines: Lines) -> tuple[int, str]:
    """The line of one pydantic error (0 if unknown) and its message."""
    cause = mistake.get("ctx", {}).get("error")
    path: Location = tuple(mistake["loc"]) + (cause.path if isinstance(cause, Misplaced) else ())
    known = path
    while known and known not in lines:
        known = known[:-1]
    line = lines.get(known, 0)
    place = f"{where}:{line}" if line else f"{where} with overrides" if known in lines else where
    name = str(path[-1])[:60] if path else ""
    match mistake["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            allowed = sorted(_fields(cls, path[:-1]))
            near = nearest(name, allowed)
            hint = f"did you mean `{near}`? Allowed" if near else "allowed"
            return line, f"{place}: unknown key `{name}`; {hint}: {', '.join(allowed)}"
        case "missing" | "missing_argument":
            return line, f"{place}: required key `{_dotted(path)}` is missing"
        case kind:
            # The end of the path may name a branch of a union, which no author wrote.
            key = _dotted(known if known in lines else path) or "the document"
            expected = _EXPECTED.get(kind) or mistake["msg"].removeprefix("Value error, ")
            expected = expected.replace("Input should be", "must be")
            return line, f"{place}: {key}: {expected}{_given(mistake.get('input'))}"


def _dotted(path: Location) -> str:
    return ".".join(str(part)[:60] for part in path)


def _given(value: Any) -> str:
    if isinstance(value, dict | list):
        return ""
    return f" (given: {value[:60]!r})" if isinstance(value, str) else f" (given: {json.dumps(value)[:60]})"


def _fields(cls: Any, path: Location) -> set[str]:
    """Field names of the dataclass that lies at `path` inside `cls`."""
    origin, parts = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        # pydantic names the branch of a union in the path
        inner = {part: path[1:] if path and path[0] == getattr(part, "__name__", "") else path for part in parts}
        return set().union(*(_fields(part, rest) for part, rest in inner.items()))
    if dataclasses.is_dataclass(cls):
        if not path:
            return {field.name for field in dataclasses.fields(cls) if field.init}
        hints = typing.get_type_hints(cls)
        return _fields(hints[str(path[0])], path[1:]) if str(path[0]) in hints else set()
    if path and parts:
        return _fields(parts[1] if issubclass(origin, Mapping) else parts[0], path[1:])
    return set()
