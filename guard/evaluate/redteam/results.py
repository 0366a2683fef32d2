"""Attack results loaded from JSON for the page of an evaluation: a name and numbers for each attack.

    {"attacks": [{"name": "spaced letters", "attacked": 100, "mode": {"success": 0.29}}, ...]}

or the report of `guard redteam`, whose `guards` each have such a list and the digest of their `model`. Only names and
numbers are loaded, so that no attacked text can get onto the page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from guard import document
from guard.errors import DocumentError

_MAX_NAME = 60  # characters


@dataclass(frozen=True, slots=True)
class AttackTable:
    """A table of attacks: the columns that any of them has, in order of appearance, and their numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def load(path: Path, model: str) -> AttackTable:
    """The table in a file; DocumentError if it has neither of these forms, or is about other guards than `model`."""
    try:
        data = json.loads(document.read_text(path))
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{path}: is not valid JSON") from None
    guards = data.get("guards", [data]) if isinstance(data, dict) else None
    if not isinstance(guards, list) or not all(isinstance(guard, dict) for guard in guards):
        raise DocumentError(f"{path}: must be an object with `attacks`, or what `guard redteam` wrote")
    matching = [guard for guard in guards if guard.get("model", model) == model]
    if not matching:
        raise DocumentError(f"{path}: is about other guards than {model[:12]}; attack the one that is evaluated")
    attacks = matching[0].get("attacks")
    if not isinstance(attacks, list) or not attacks:
        raise DocumentError(f"{path}: `attacks` must be a list of objects")
    rows = [(_name(entry, f"{path}: attack {number}"), _numbers(entry)) for number, entry in enumerate(attacks, 1)]
    columns = tuple(dict.fromkeys(key for _, numbers in rows for key in numbers))
    return AttackTable(columns, tuple((name, tuple(numbers.get(key) for key in columns)) for name, numbers in rows))


def _name(entry: object, where: str) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
        raise DocumentError(f"{where}: must be an object with a `name` of at most {_MAX_NAME} characters")
    return name


def _numbers(entry: dict[str, object]) -> dict[str, float]:
    """The numbers of an attack, with those of nested objects under both names."""
    numbers: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            numbers |= {f"{key} {inner}": number for inner, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and len(key) <= _MAX_NAME:
            numbers[key] = value
    return numbers
