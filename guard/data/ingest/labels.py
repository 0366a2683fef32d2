"""The label and the categories of a record, by the rules of its source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from guard.data.row import Label
from guard.data.sources.description import Source
from guard.data.sources.fields import alternatives, first, value_at
from guard.data.sources.formats import Record
from guard.data.sources.row_rules import CategoryRule
from guard.errors import InvalidInput
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk, Meaning, fold

_TRUE = ("1", "1.0", "true", "yes")
_FALSE = ("0", "0.0", "false", "no")
_MISSING = ("", "nan", "none", "null", "n/a")


@dataclass(frozen=True, slots=True)
class Labeller:
    """A source with its crosswalk and the codes of the policy, None where codes are not checked."""

    source: Source
    crosswalk: Crosswalk | None
    codes: tuple[str, ...] | None


def label_of(labeller: Labeller, record: Record, meaning: Meaning) -> Label:
    """The label by the source's label rule; `meaning` is that of the record's categories."""
    rule, own = labeller.source.label, labeller.source.own
    if rule.flags:
        return "unlabelled" if meaning.unsafe is None else "unsafe" if meaning.unsafe else "safe"
    if not rule.fields:
        assert rule.otherwise is not None  # LabelRule checks it
        return rule.otherwise
    if own and rule.otherwise is not None and value_at(record, rule.fields[0]) is None:
        return rule.otherwise
    name, value = first(record, rule.fields)
    if own and isinstance(value, list) and len(value) != 1:
        raise InvalidInput(f"field `{name}` holds a list of {len(value)} labels; give one")
    for band in rule.bands:
        if band.holds(_number(name, value)):
            return band.label
    native = fold(value[0] if isinstance(value, list) and value else value)
    natives_by_label: tuple[tuple[Label, tuple[str, ...]], ...] = (
        ("unsafe", rule.unsafe),
        ("safe", rule.safe),
        ("unlabelled", rule.unlabelled),
    )
    for label, natives in natives_by_label:
        if native in map(fold, natives):
            return label
    if rule.otherwise is None:
        raise InvalidInput(
            f"field `{name}` holds a label ({len(native)} characters) that the label rule does not list; it lists: "
            f"{', '.join((*rule.safe, *rule.unsafe, *rule.unlabelled))}"
        )
    return rule.otherwise


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise InvalidInput(f"`{name}` must be a number for the bands of the label rule") from None


def meaning_of(labeller: Labeller, record: Record) -> Meaning:
    """The meaning of the record's categories: the codes that it violates, undecided codes, and the label, if any."""
    rule = labeller.source.categories
    if rule is None:
        return Meaning(None)
    if rule.always:
        return Meaning(None, rule.always)
    if rule.flags:
        return _meaning_of_flags(labeller, rule, record)
    name, value = next(((name, v) for name in rule.fields if (v := value_at(record, name)) is not None), ("", None))
    if value is None and labeller.crosswalk is not None and not labeller.source.own:
        raise InvalidInput(f"has no field {alternatives(rule.fields)}")
    meaning = _meaning_of_labels(labeller, _split_labels(value, rule.separator), name)
    undecided = dict.fromkeys(meaning.undecided)
    if rule.undecided is not None:
        labels = _split_labels(value_at(record, rule.undecided), rule.separator)
        undecided |= dict.fromkeys(_codes(labeller, labels, rule.undecided))
    return Meaning(None, meaning.codes, tuple(code for code in undecided if code not in meaning.codes))


def _meaning_of_flags(labeller: Labeller, rule: CategoryRule, record: Record) -> Meaning:
    flags = {native: _flag(record, name) for name, native in rule.flags.items()}
    violated = [native for native, value in flags.items() if value]
    missing = [native for native, value in flags.items() if value is None]
    meaning = _meaning_of_labels(labeller, violated, "flags")
    undecided = dict.fromkeys((*meaning.undecided, *_codes(labeller, missing, "flags")))
    unsafe = True if violated else None if missing else False
    return Meaning(unsafe, meaning.codes, tuple(code for code in undecided if code not in meaning.codes))


def _split_labels(value: Any, separator: str | None) -> list[Any]:
    """The labels in a field, which holds a list, a text of several labels, or one label."""
    if isinstance(value, str) and value.lstrip().startswith("["):  # a list in a cell of a table
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list):
        return value
    if isinstance(value, str) and separator is not None:
        return [part for part in value.split(separator) if part.strip()]
    return [] if value is None or value == "" else [value]


def _meaning_of_labels(labeller: Labeller, labels: Sequence[object], field: str) -> Meaning:
    """Violated and undecided codes of labels: a source's own topics leave nothing undecided, a taxonomy may."""
    table = labeller.crosswalk
    if table is None or not labels or not (table.origin or table.either or table.within):
        return Meaning(None, _codes(labeller, labels, field))
    return crosswalks.interpret(table, labels, labeller.source.name, field)


def _codes(labeller: Labeller, labels: Sequence[object], field: str) -> tuple[str, ...]:
    if labeller.crosswalk is not None:
        return crosswalks.translate(labeller.crosswalk, labels, labeller.source.name, field) or ()
    codes = tuple(dict.fromkeys(str(label).strip() for label in labels))
    if labeller.codes is not None and (unknown := len(set(codes) - set(labeller.codes))):
        raise InvalidInput(
            f"`{field}` names {unknown} codes that are not in the policy; it has: {', '.join(labeller.codes)}"
        )
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
