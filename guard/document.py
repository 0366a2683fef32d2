"""YAML documents of plain data: text to dicts, lists and scalars with the line of each, and back.

The text is parsed by the YAML 1.2 core rules, because PyYAML's own turn `no` into False and `2e-4` into a string.
Aliases and tags are refused, keys are always text, JSON is parsed as the YAML that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from guard.errors import DocumentError

MAX_DEPTH = 32
Location = tuple[int | str, ...]
Lines = dict[Location, int]
_ERRORS = (yaml.YAMLError, ValueError, OverflowError)  # PyYAML lets the last two out of bad escapes
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


class _Unsupported(yaml.MarkedYAMLError):
    """It is YAML, of a kind that no document of ours is."""


class _Composer(yaml.composer.Composer):
    """The nodes of a document of plain data."""

    depth = 0
    longest_list: int | None = None

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]  # of the parser that it is mixed into
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not supported; write the value out"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!name) are not supported; write plain data"
        elif self.depth >= MAX_DEPTH:
            problem = f"the document is nested deeper than {MAX_DEPTH} levels"
        elif self.longest_list is not None and isinstance(parent, yaml.SequenceNode) and index >= self.longest_list:
            problem = f"a list must hold at most {self.longest_list} items"
        if problem:
            raise _Unsupported(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader(_Composer, yaml.SafeLoader):
    """PyYAML's own parser; its scalars follow the YAML 1.2 core schema."""


class _Writer(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 (PyYAML's own rules) or 1.2 would parse as another type."""


_FAST: type[Any] = _Reader
if yaml.__with_libyaml__:

    class _FastReader(_Composer, yaml.CSafeLoader):
        """libyaml's parser, several times as fast; it refuses more, and in other words."""

        def __init__(self, text: str) -> None:
            _Composer.__init__(self)
            yaml.CSafeLoader.__init__(self, text)

    _FAST = _FastReader
# One table for both: they differ in how a text is cut into scalars, not in what those mean.
_Reader.yaml_implicit_resolvers = _FAST.yaml_implicit_resolvers = {}
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
        kind = _Reader if "\t" in text or "\ufeff" in text else _FAST  # the two read these differently
        try:
            return _nodes(kind, text, longest_list)
        except _ERRORS as problem:
            if kind is _Reader or isinstance(problem, _Unsupported):
                raise
            return _nodes(_Reader, text, longest_list)  # which reads it after all, or says better what is wrong
    except _ERRORS as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        if "another document" in what:
            what = "another document starts here; a file holds one"
        elif "'\\t'" in what:
            what = "indented with a tab; use spaces"
        raise error(f"{place}: not valid YAML: {what}") from None


def _nodes(kind: type[Any], text: str, longest_list: int | None) -> yaml.Node | None:
    reader = kind(text)
    reader.longest_list = longest_list
    try:
        root: yaml.Node | None = reader.get_single_node()
        return root
    finally:
        reader.dispose()


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
        mistakes.append(f"{where}:{line}: not a valid {node.tag.removeprefix(_TAG)}")
    return value


def _scalar(node: yaml.Node, read: Callable[[str], Any]) -> Any:
    """The value of a scalar node, or the ValueError (lone surrogate, thousands of digits) of parsing it."""
    try:
        return read(node.value)
    except ValueError as problem:
        return problem


def read_text(path: Path, error: type[DocumentError] = DocumentError) -> str:
    """The text of a UTF-8 file; raises `error` with the reason if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        reason = "it is not UTF-8" if isinstance(problem, UnicodeError) else getattr(problem, "strerror", None)
        raise error(f"{path}: cannot be read: {reason or 'its name holds a NUL character'}") from None


def dump(data: Any) -> str:
    """Plain data as YAML that every reader, ours or PyYAML's own, reads back to the same data."""
    return yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110)
