"""Labels and categories of a record, by the rules of its source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from guard.data.row import Label
from guard.data.sources.description import Source
from guard.data.sources.fields import either, first, value_at
from guard.data.sources.formats import Record
from guard.errors import InvalidInput
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk, Meaning, fold

_TRUE = ("1", "1.0", "true", "yes")
_FALSE = ("0", "0.0", "false", "no")
_MISSING = ("", "nan", "none", "null", "n/a")


@dataclass(frozen=True, slots=True)
class Rule:
    """A source with its crosswalk, and the codes of the policy, None where they are not checked."""

    source: Source
    table: Crosswalk | None
    codes: tuple[str, ...] | None


def label_of(rule: Rule, record: Record, said: Meaning) -> Label:
    """The label by the source's rule; `said` is what its categories say."""
    by = rule.source.label
    if by.flags:
        return "unlabelled" if said.unsafe is None else "unsafe" if said.unsafe else "safe"
    if not by.fields:
        assert by.otherwise is not None  # LabelRule checks it
        return by.otherwise
    if rule.source.own and by.otherwise is not None and value_at(record, by.fields[0]) is None:
        return by.otherwise
    name, value = first(record, by.fields)
    if rule.source.own and isinstance(value, list) and len(value) != 1:
        raise InvalidInput(f"field `{name}` holds a list of {len(value)} labels; give one")
    for band in by.bands:
        if band.holds(_number(name, value)):
            return band.label
    native = fold(value[0] if isinstance(value, list) and value else value)
    listed: tuple[tuple[Label, tuple[str, ...]], ...] = (
        ("unsafe", by.unsafe),
        ("safe", by.safe),
        ("unlabelled", by.unlabelled),
    )
    for label, natives in listed:
        if native in map(fold, natives):
            return label
    if by.otherwise is None:
        raise InvalidInput(
            f"field `{name}` holds a label ({len(native)} characters) that the label rule does not list; it lists: "
            f"{', '.join((*by.safe, *by.unsafe, *by.unlabelled))}"
        )
    return by.otherwise


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise InvalidInput(f"`{name}` must be a number for the bands of the label rule") from None


def meaning_of(rule: Rule, record: Record) -> Meaning:
    """What the record's categories say: the codes that it violates, those left undecided, and the label, if any."""
    by = rule.source.categories
    if by is None:
        return Meaning(None)
    if by.always:
        return Meaning(None, by.always)
    if by.flags:
        flags = {native: _flag(record, name) for name, native in by.flags.items()}
        set_ = [native for native, value in flags.items() if value]
        unset = [native for native, value in flags.items() if value is None]
        found = _meaning(rule, set_, "flags")
        undecided = dict.fromkeys((*found.undecided, *_codes(rule, unset, "flags")))
        unsafe = True if set_ else None if unset else False
        return Meaning(unsafe, found.codes, tuple(code for code in undecided if code not in found.codes))
    name, value = next(((name, v) for name in by.fields if (v := value_at(record, name)) is not None), ("", None))
    if value is None and rule.table is not None and not rule.source.own:
        raise InvalidInput(f"has no field {either(by.fields)}")
    found = _meaning(rule, _several(value, by.separator), name)
    undecided = dict.fromkeys(found.undecided)
    if by.undecided is not None:
        undecided |= dict.fromkeys(_codes(rule, _several(value_at(record, by.undecided), by.separator), by.undecided))
    return Meaning(None, found.codes, tuple(code for code in undecided if code not in found.codes))


def _several(value: Any, separator: str | None) -> list[Any]:
    """The labels that a field holds: a list, a text of several, or one."""
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list in a cell of a table
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list):
        return value
    if isinstance(value, str) and separator is not None:
        return [part for part in value.split(separator) if part.strip()]
    return [] if value is None or value == "" else [value]


def _meaning(rule: Rule, labels: Sequence[object], field: str) -> Meaning:
    """Codes, and those undecided, of labels; a source's own topics leave nothing undecided, another taxonomy may."""
    table = rule.table
    if table is None or not labels or not (table.origin or table.either or table.within):
        return Meaning(None, _codes(rule, labels, field))
    return crosswalks.interpret(table, labels, rule.source.name, field)


def _codes(rule: Rule, labels: Sequence[object], field: str) -> tuple[str, ...]:
    if rule.table is not None:
        return crosswalks.translate(rule.table, labels, rule.source.name, field) or ()
    codes = tuple(dict.fromkeys(str(label).strip() for label in labels))
    if rule.codes is not None and (unknown := len(set(codes) - set(rule.codes))):
        raise InvalidInput(f"`{field}` names {unknown} codes that the policy has not; it has: {', '.join(rule.codes)}")
    return codes


def _flag(record: Record, name: str) -> bool | None:
    value = value_at(record, name)
    if isinstance(value, bool):
        return value
    text = fold("" if value is None else value)
    if text in _MISSING:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InvalidInput(f"flag `{name}` must be one of: {', '.join((*_TRUE, *_FALSE))}, or empty where it is unknown")
