"""Results of attacks on a guard, read from JSON for the page of an evaluation: a name and numbers for each attack.

    {"attacks": [{"name": "spaced letters", "attacked": 100, "mode": {"success": 0.29}}, ...]}

or the report of `guard redteam`, whose `guards` each have such a list and the digest of their `model`. What is neither
the name nor a number is not read, so that no attacked text can get onto the page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from guard import document
from guard.errors import DocumentError

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Evasion:
    """A table of attacks: the columns that any of them has, in order of appearance, and their numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def load(path: Path, model: str) -> Evasion:
    """The table in a file; DocumentError if it is not of a form above, or tells of other guards than `model`."""
    try:
        data = json.loads(document.read_text(path))
    except ValueError as problem:
        if isinstance(problem, DocumentError):
            raise
        raise DocumentError(f"{path}: is not valid JSON") from None
    guards = data.get("guards", [data]) if isinstance(data, dict) else None
    if not isinstance(guards, list) or not all(isinstance(guard, dict) for guard in guards):
        raise DocumentError(f"{path}: must be an object with `attacks`, or what `guard redteam` wrote")
    mine = [guard for guard in guards if guard.get("model", model) == model]
    if not mine:
        raise DocumentError(f"{path}: tells of other guards than {model[:12]}; attack the one that is evaluated")
    listed = mine[0].get("attacks")
    if not isinstance(listed, list) or not listed:
        raise DocumentError(f"{path}: `attacks` must be a list of objects")
    found = [(_name(entry, f"{path}: attack {number}"), _numbers(entry)) for number, entry in enumerate(listed, 1)]
    columns = tuple(dict.fromkeys(key for _, numbers in found for key in numbers))
    return Evasion(columns, tuple((name, tuple(numbers.get(key) for key in columns)) for name, numbers in found))


def _name(entry: object, where: str) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise DocumentError(f"{where}: must be an object with a `name` of at most {_LONGEST_NAME} characters")
    return name


def _numbers(entry: dict[str, object]) -> dict[str, float]:
    """The numbers of an attack, and those of the objects in it under both names."""
    found: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            found |= {f"{key} {inner}": number for inner, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and len(key) <= _LONGEST_NAME:
            found[key] = value
    return found
