"""Read a YAML document into a frozen dataclass; every mistake is reported with file, line, key and what is allowed.

The document is read by the YAML 1.2 core rules, because PyYAML's own turn `no` into False and `2e-4` into a string.
It holds plain data only: aliases and tags are refused, keys are always text, JSON is read as the YAML that it is.
Classes that are read set `__pydantic_config__ = STRICT`; no value is converted on the way (`true` is no number,
`"1"` is no integer), except that an integer may stand where a float is due.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from guard.errors import ConfigError, DocumentError

STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
DEEPEST = 32
T = TypeVar("T")
Location = tuple[int | str, ...]
Lines = dict[Location, int]
_OVERRIDDEN = 0  # the line of a key that comes from the command line
_TAG = "tag:yaml.org,2002:"
_CORE: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)


class Misplaced(ValueError):
    """What a dataclass's own check raises to say which of its keys (`path`) the mistake is about."""

    def __init__(self, message: str, *path: int | str) -> None:
        super().__init__(message)
        self.path = path


class _Reader(yaml.SafeLoader):
    """The nodes of a document of plain data; its scalars follow the YAML 1.2 core schema."""

    depth = 0
    longest_list: int | None = None

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not supported; write the value out"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!name) are not supported; only plain data is read"
        elif self.depth >= DEEPEST:
            problem = f"the document is nested deeper than {DEEPEST} levels"
        elif self.longest_list is not None and isinstance(parent, yaml.SequenceNode) and index >= self.longest_list:
            problem = f"a list must hold at most {self.longest_list} items"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Writer(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 (PyYAML's own rules) or 1.2 would read as something else."""


_Reader.yaml_implicit_resolvers = {}
for _kind in (_Reader, _Writer):
    for _name, _pattern, _first in _CORE:
        _kind.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)
# PyYAML writes NEL, a line break to YAML 1.1, unescaped unless it is told to use double quotes.
_Writer.add_representer(
    str, lambda writer, text: writer.represent_scalar(_TAG + "str", text, style='"' if "\x85" in text else None)
)


def _text(value: str) -> str:
    # JSON writes an emoji as two escaped surrogates; PyYAML leaves them apart. A lone one is no text.
    return value.encode("utf-16", "surrogatepass").decode("utf-16")


def _integer(value: str) -> int:
    return int(value, 0) if value[:2] in ("0o", "0x") else int(value)  # 012 is twelve in YAML 1.2


def _float(value: str) -> float:
    return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda value: value.lower() == "true",
    _TAG + "int": _integer,
    _TAG + "float": _float,
    _TAG + "str": _text,
}


def parse(
    text: str, where: str, error: type[DocumentError] = DocumentError, longest_list: int | None = None
) -> tuple[Any, Lines]:
    """The plain data of a YAML text, and the line of every key and item by its path from the root.

    longest_list: items of a list, at most; what comes after them is not parsed, since that takes a millisecond each.
    """
    node = _compose(text, where, error, longest_list)
    if node is None:
        raise error(f"{where}: the document is empty")
    lines: Lines = {}
    mistakes: list[str] = []
    data = _build(node, (), where, lines, mistakes)
    if mistakes:
        raise error("\n".join(mistakes))
    return data, lines


def _compose(text: str, where: str, error: type[DocumentError], longest_list: int | None) -> yaml.Node | None:
    try:
        reader = _Reader(text)
        reader.longest_list = longest_list
        try:
            return reader.get_single_node()
        finally:
            reader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as problem:  # PyYAML lets the last two out of bad escapes
        mark = getattr(problem, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        if "another document" in what:
            what = "another document starts here; a file holds one"
        elif "'\\t'" in what:
            what = "a tab stands where only spaces may; indent with spaces"
        raise error(f"{place}: not valid YAML: {what}") from None


def _build(node: yaml.Node, path: Location, where: str, lines: Lines, mistakes: list[str]) -> Any:
    """The data of `node`; fills `lines` and `mistakes`."""
    line = lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        plain = {}
        for key_node, value in node.value:
            key_line = key_node.start_mark.line + 1
            key = _scalar(key_node, _text) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                mistakes.append(f"{where}:{key_line}: a key must be plain text")
            elif key in plain:
                first = lines[(*path, key)]
                mistakes.append(f"{where}:{key_line}: key `{key[:60]}` was already given on line {first}")
            else:
                lines[(*path, key)] = key_line
                plain[key] = _build(value, (*path, key), where, lines, mistakes)
        return plain
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), where, lines, mistakes) for index, item in enumerate(node.value)]
    value = _scalar(node, _SCALARS[node.tag])
    if isinstance(value, ValueError):
        mistakes.append(f"{where}:{line}: this value cannot be read as {node.tag.removeprefix(_TAG)}")
    return value


def _scalar(node: yaml.Node, read: Callable[[str], Any]) -> Any:
    """The value of a scalar node, or the ValueError (lone surrogate, thousands of digits) that hinders reading it."""
    try:
        return read(node.value)
    except ValueError as problem:
        return problem


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
    except ValidationError as problems:
        found = problems.errors(include_url=False)
        told = sorted((_tell(problem, cls, where, lines or {}) for problem in found), key=lambda pair: pair[0])
        raise error("\n".join(dict.fromkeys(message for _, message in told))) from None
    return value


def load(path: Path, cls: type[T], error: type[DocumentError] = DocumentError, overrides: Sequence[str] = ()) -> T:
    """The YAML document at `path` as a `cls`, after the `key=value` assignments of `overrides`."""
    data, lines = parse(read(path, error), str(path), error)
    if overrides:
        data = override(data, overrides, str(path))
        for assignment in overrides:
            keys = _keys(assignment)
            lines = {known: line for known, line in lines.items() if known[: len(keys)] != keys}
            lines[keys] = _OVERRIDDEN
    return convert(data, cls, str(path), lines, error)


def read(path: Path, error: type[DocumentError] = DocumentError) -> str:
    """The text of a UTF-8 file; raises `error` with the reason if it cannot be had."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        reason = "it is not UTF-8" if isinstance(problem, UnicodeError) else getattr(problem, "strerror", None)
        raise error(f"{path}: cannot be read: {reason or 'its name holds a NUL character'}") from None


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


def dump(data: Any) -> str:
    """Plain data as YAML that every reader, ours or PyYAML's own, reads back to the same data."""
    return yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110)


_EXPECTED = {
    "dataclass_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "frozen_set_type": "must be a list",
    "string_type": "must be text; put the value in quotes",
}


def _tell(problem: Any, cls: type, where: str, lines: Lines) -> tuple[int, str]:
    """The line of one pydantic error (0 if unknown) and the error in our words."""
    cause = problem.get("ctx", {}).get("error")
    path: Location = tuple(problem["loc"]) + (cause.path if isinstance(cause, Misplaced) else ())
    known = path
    while known and known not in lines:
        known = known[:-1]
    line = lines.get(known, 0)
    place = f"{where}:{line}" if line else f"{where} with overrides" if known in lines else where
    name = str(path[-1])[:60] if path else ""
    match problem["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            allowed = sorted(_fields(cls, path[:-1]))
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean `{near[0]}`? Allowed" if near else "allowed"
            return line, f"{place}: unknown key `{name}`; {hint}: {', '.join(allowed)}"
        case "missing" | "missing_argument":
            return line, f"{place}: required key `{_dotted(path)}` is missing"
        case kind:
            # The end of the path may name a branch of a union, which no author wrote.
            key = _dotted(known if known in lines else path) or "the document"
            expected = _EXPECTED.get(kind) or problem["msg"].removeprefix("Value error, ")
            expected = expected.replace("Input should be", "must be")
            return line, f"{place}: {key}: {expected}{_given(problem.get('input'))}"


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
