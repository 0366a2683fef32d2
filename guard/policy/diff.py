"""Differences between two policies, category by category and field by field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from guard.policy import Category, Policy

Value = str | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs."""

    field: str
    old: Value
    new: Value


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """The differences from policy `old` to `new`. Categories are matched by code; `fields` are the policies' own."""

    old: Policy
    new: Policy
    fields: tuple[Change, ...]
    removed: tuple[Category, ...]
    added: tuple[Category, ...]
    changed: dict[str, tuple[Change, ...]]
    order: Change | None
    """The codes that both have, if their order differs."""

    @property
    def empty(self) -> bool:
        """Whether the policies are the same, to the digest."""
        return not (self.fields or self.removed or self.added or self.changed or self.order)


def diff(old: Policy, new: Policy) -> PolicyDiff:
    """The differences from `old` to `new`."""
    before = {category.code: category for category in old.categories}
    after = {category.code: category for category in new.categories}
    changes = {code: _changes(before[code], after[code]) for code in old.codes if code in after}
    kept = Change("order", tuple(c for c in old.codes if c in after), tuple(c for c in new.codes if c in before))
    return PolicyDiff(
        old=old,
        new=new,
        fields=_changes(old, new),
        removed=tuple(category for category in old.categories if category.code not in after),
        added=tuple(category for category in new.categories if category.code not in before),
        changed={code: fields for code, fields in changes.items() if fields},
        order=kept if kept.old != kept.new else None,
    )


def _changes(old: Policy | Category, new: Policy | Category) -> tuple[Change, ...]:
    names = [field.name for field in dataclasses.fields(old) if field.name != "categories"]
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return tuple(Change(name, before, after) for name, before, after in pairs if before != after)


def as_dict(difference: PolicyDiff) -> dict[str, Any]:
    """The differences as plain data."""

    def plain(changes: tuple[Change, ...]) -> dict[str, Any]:
        return {change.field: {"old": change.old, "new": change.new} for change in changes}

    return {
        "same": difference.empty,
        "digests": {"old": difference.old.digest, "new": difference.new.digest},
        "fields": plain(difference.fields),
        "removed": [dataclasses.asdict(category) for category in difference.removed],
        "added": [dataclasses.asdict(category) for category in difference.added],
        "changed": {code: plain(changes) for code, changes in difference.changed.items()},
        "order": None if difference.order is None else {"old": difference.order.old, "new": difference.order.new},
    }
