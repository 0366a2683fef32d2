"""Crosswalks: what the labels of one taxonomy say under a policy.

The labels are a data set's own, or the codes of another policy (`origin`). A file that has an `origin` accounts for
both sides. Each label is listed once:

    mapped     content with the label violates every one of these codes
    either     ... at least one of these codes; the label does not say which
    outside    the policy does not cover what the label names: no violation (with a reason)
    unmapped   some of it may violate the policy, some not: undecided (with a reason)

and so is each code of the policy that none, or not all, of whose content has a label that is mapped to it:

    within     some content with these labels violates the code, some does not; an unmapped label that is named here
               can violate only the codes that name it, or that are beyond the labels
    beyond     the code covers what no label names, so that content free of all labels may violate it (with a reason)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from guard import assets, schema
from guard.errors import ConfigError, DataError
from guard.policy import Policy, natural, unknown_codes

Kind = Literal["mapped", "either", "outside", "unmapped"]
Codes = dict[str, tuple[str, ...]]
_NO_CODE = re.compile("[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one label says: its codes, or the reason why it has none."""

    label: str
    kind: Kind
    codes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an unsafe row's labels say under the policy together.

    `unsafe` is None where the labels leave it open. Without `codes`, an unsafe row violates some unknown category.
    The labels leave the `undecided` codes open, though they decide `codes` or the verdict.
    """

    unsafe: bool | None
    codes: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class Crosswalk:
    """Labels of one taxonomy and what they say under the policy whose id is `policy`; the module says how.

    Labels are compared without case and outer white space; with an `origin` also without regard to the characters
    between letters and digits, because codes cannot hold them all (`Sexual (minor)` is the code Sexual_minor).
    `spellings` gives other names of labels. With `match: contains`, a native label that is not listed is decided by the
    first key that occurs in it, those of `mapped` before the others.
    """

    __pydantic_config__ = schema.STRICT

    name: str
    policy: str
    title: str
    mapped: Codes
    unmapped: dict[str, str]
    match: Literal["exact", "contains"] = "exact"
    origin: str | None = None
    either: Codes = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)
    within: Codes = field(default_factory=dict)
    beyond: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.origin is not None and self.match != "exact":
            raise schema.Misplaced("the codes of a policy are matched exactly; leave `match` or `origin` out", "match")
        self._check_labels()
        for section in ("outside", "unmapped", "beyond"):
            for key, reason in getattr(self, section).items():
                if not reason.strip():
                    raise schema.Misplaced("give the reason", section, key)
        for section, fewest in (("mapped", 1), ("either", 2), ("within", 1)):
            for key, values in getattr(self, section).items():
                if len(set(values)) < max(fewest, len(values)):
                    raise schema.Misplaced(f"list {fewest} or more different ones", section, key)
        for code, labels in self.within.items():
            for index, label in enumerate(labels):
                entry = self.entries.get(self.key(label))
                if entry is None or entry.kind == "outside":
                    wrong = "is not a label that this crosswalk lists" if entry is None else "is outside the policy"
                    raise schema.Misplaced(wrong, "within", code, index)

    def _check_labels(self) -> None:
        seen = set()
        for section in ("mapped", "either", "outside", "unmapped", "spellings"):
            for label in getattr(self, section):
                if (key := self.key(label)) in seen:
                    raise schema.Misplaced(
                        f"native label {fold(label)!r} is listed twice; list it once, under mapped, either, outside or "
                        "unmapped",
                        section,
                        label,
                    )
                seen.add(key)
        for spelling, label in self.spellings.items():
            if self.key(label) not in self.entries:
                raise schema.Misplaced("stands for a label that this crosswalk does not list", "spellings", spelling)

    def key(self, label: object) -> str:
        """A label in the form in which it is compared."""
        return fold(label) if self.origin is None else fold_code(label)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every label by its key, the mapped ones first."""
        coded = [Entry(label, "mapped", codes) for label, codes in self.mapped.items()]
        coded += [Entry(label, "either", codes) for label, codes in self.either.items()]
        bare = [Entry(label, "outside", (), reason) for label, reason in self.outside.items()]
        bare += [Entry(label, "unmapped", (), reason) for label, reason in self.unmapped.items()]
        return {self.key(entry.label): entry for entry in (*coded, *bare)}

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Every code of the policy that the crosswalk names, in natural order."""
        named = {code for entry in self.entries.values() for code in entry.codes}
        return tuple(sorted(named | set(self.within) | set(self.beyond), key=natural))

    @cached_property
    def _spelled(self) -> dict[str, Entry]:
        return {self.key(spelling): self.entries[self.key(label)] for spelling, label in self.spellings.items()}

    def entry(self, label: object) -> Entry | None:
        """What `label` says, None if the crosswalk does not list it."""
        key = self.key(label)
        entry = self.entries.get(key) or self._spelled.get(key)
        if entry is None and self.match == "contains":
            return next((listed for part, listed in self.entries.items() if part in key), None)
        return entry

    def possible(self, label: object) -> frozenset[str]:
        """The codes that content with the (listed) label may violate, besides those that it does."""
        entry, key = self.entries[self.key(label)], self.key(label)
        inside = frozenset(code for code, labels in self.within.items() if key in map(self.key, labels))
        if entry.kind == "unmapped":
            return inside or frozenset(self.codes)
        return inside.union(entry.codes) if entry.kind == "either" else inside.difference(entry.codes)


def fold(label: object) -> str:
    """A native label as it is compared: its text in lower case without outer white space."""
    return str(label).strip().lower()


def fold_code(label: object) -> str:
    """A policy's code, or its name elsewhere, as they are compared: lower-case letters and digits joined by `_`."""
    return _NO_CODE.sub("_", fold(label)).strip("_")


def names(taxonomy: Path | None = None) -> list[str]:
    """Names of the crosswalks in `taxonomy` (default: the shipped one), sorted."""
    return sorted(path.stem for path in _folder(taxonomy).glob("*.yaml"))


def load(name: str, taxonomy: Path | None = None) -> Crosswalk:
    """The crosswalk `name` of `taxonomy` (default: the shipped one); ConfigError lists the mistakes of its file."""
    folder = _folder(taxonomy)
    if name not in (known := names(taxonomy)):
        raise ConfigError(f"no crosswalk {name!r} in {folder}; there are: {', '.join(known)}")
    return schema.load(folder / f"{name}.yaml", Crosswalk, ConfigError)


def _folder(taxonomy: Path | None) -> Path:
    return (taxonomy or assets.asset("taxonomy")) / "crosswalks"


def check_codes(crosswalk: Crosswalk, policy: Policy) -> None:
    """ConfigError if the crosswalk is for another policy, or names a code that `policy` lacks."""
    if crosswalk.policy != policy.id:
        raise ConfigError(
            f"crosswalk {crosswalk.name} maps to policy {crosswalk.policy!r}, but the build is for {policy.id!r}; "
            "write a crosswalk for that policy"
        )
    for section in (crosswalk.mapped, crosswalk.either):
        for label, codes in section.items():
            for code in codes:
                if code not in policy.codes:
                    raise ConfigError(f"crosswalk {crosswalk.name}: {label!r}: {unknown_codes(policy, [code])}")
    for name, keys in (("within", crosswalk.within), ("beyond", crosswalk.beyond)):
        if unknown := [code for code in keys if code not in policy.codes]:
            raise ConfigError(f"crosswalk {crosswalk.name}: `{name}`: {unknown_codes(policy, unknown)}")


def check_total(crosswalk: Crosswalk, origin: Policy | None, policy: Policy) -> None:
    """ConfigError that lists the codes of `origin` and of `policy` for which the crosswalk does not account."""
    check_codes(crosswalk, policy)
    mistakes = []
    if origin is not None:
        codes = {fold_code(code): code for code in origin.codes}
        if lacking := [code for key, code in codes.items() if key not in crosswalk.entries]:
            mistakes.append(
                f"does not list {', '.join(lacking)} of {origin.id}; add each to mapped, either, outside or unmapped"
            )
        if unknown := [entry.label for key, entry in crosswalk.entries.items() if key not in codes]:
            mistakes.append(f"lists {', '.join(unknown)}, unknown to {origin.id}; allowed: {', '.join(origin.codes)}")
    if lacking := [code for code in policy.codes if code not in crosswalk.codes]:
        mistakes.append(
            f"does not cover {', '.join(lacking)} of {policy.id}; map labels to it, or add within or beyond"
        )
    if mistakes:
        raise ConfigError("\n".join(f"crosswalk {crosswalk.name}: {mistake}" for mistake in mistakes))


def closed(crosswalk: Crosswalk, policy: Policy) -> Crosswalk:
    """The crosswalk with all codes of `policy` that it does not name put beyond its labels."""
    left = {code: "no label is mapped to it" for code in policy.codes if code not in crosswalk.codes}
    return dataclasses.replace(crosswalk, beyond={**crosswalk.beyond, **left})


def translate(crosswalk: Crosswalk, labels: Iterable[object], source: str, field: str) -> tuple[str, ...] | None:
    """Codes of the native labels, in their order; None if no label is mapped (the source does not say).

    Raises DataError naming the source and field for a native label that the crosswalk does not list.
    """
    entries = _entries(crosswalk, labels, source, field)
    codes = (code for entry in entries if entry.kind == "mapped" for code in entry.codes)
    return tuple(dict.fromkeys(codes)) or None


def interpret(crosswalk: Crosswalk, labels: Iterable[object], source: str, field: str) -> Meaning:
    """All that the native labels of an unsafe row say, if the crosswalk names every code of its policy; see `closed`.

    Raises DataError as `translate` does.
    """
    return meaning(crosswalk, _entries(crosswalk, labels, source, field))


def _entries(crosswalk: Crosswalk, labels: Iterable[object], source: str, field: str) -> list[Entry]:
    entries = []
    for label in labels:
        entry = crosswalk.entry(label)
        if entry is None:
            raise DataError(
                f"source {source}: field `{field}` holds a native label ({len(fold(label))} characters) that crosswalk "
                f"{crosswalk.name} does not list; add it under `mapped` or `unmapped`"
            )
        entries.append(entry)
    return entries


def meaning(crosswalk: Crosswalk, entries: Iterable[Entry]) -> Meaning:
    """What the labels of an unsafe row say together. None of them: the row is unsafe, but its labels are not known."""
    entries = tuple(entries)
    kinds = {entry.kind for entry in entries or crosswalk.entries.values()}
    if not entries:
        return Meaning(None if kinds & {"outside", "unmapped"} else True)
    sure = {code for entry in entries if entry.kind == "mapped" for code in entry.codes}
    if not sure and kinds != {"outside"}:
        return Meaning(True if "either" in kinds else None)
    undecided = set(crosswalk.beyond).union(*(crosswalk.possible(entry.label) for entry in entries))
    return Meaning(bool(sure), _ordered(sure), _ordered(undecided - sure))


def _ordered(codes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(codes, key=natural))


def project(scores: Mapping[str, float], crosswalk: Crosswalk) -> dict[str, float | None]:
    """A probability for each code of the policy: the highest among the labels that are mapped to it.

    None where no scored label is. A label that violates one of several codes counts for each, so theirs are upper
    bounds. Raises DataError for a score of a label that the crosswalk does not list.
    """
    projected: dict[str, float | None] = dict.fromkeys(crosswalk.codes)
    for label, score in scores.items():
        entry = crosswalk.entry(label)
        if entry is None:
            raise DataError(
                f"crosswalk {crosswalk.name} does not list {label[:48]!r}; it lists: "
                f"{', '.join(entry.label for entry in crosswalk.entries.values())}"
            )
        for code in entry.codes:
            projected[code] = max(score, projected[code] or 0.0)
    return projected
