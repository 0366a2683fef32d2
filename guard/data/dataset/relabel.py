"""Relabelling: labelled rows of one policy as rows of another, by the route between the two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from guard.conversation import conversation_from_row
from guard.errors import DataError, InvalidInput
from guard.jobs.atomic import atomic
from guard.jobs.rows import as_json, open_rows
from guard.message import text_only
from guard.policy.crosswalk import Crosswalk, Entry, Meaning, meaning
from guard.strict_json import parse

MISTAKES_SHOWN = 20
SHARD_ROWS = 5000  # rows that are read together
UNKNOWN = "unsafe, but the row does not say which categories it violates"


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What a row is under the other policy.

    `label` is None for a row that must be left out, because nothing can be said; `reason` says why. `categories` is
    None for an unsafe row whose categories are not known. About the `undecided` codes nothing is said: they must not be
    taken for codes that the row does not violate.
    """

    label: Literal["safe", "unsafe"] | None
    categories: tuple[str, ...] | None = ()
    undecided: tuple[str, ...] = ()
    reason: str = ""


def relabel(
    crosswalk: Crosswalk,
    label: Literal["safe", "unsafe"],
    categories: Sequence[str] | None,
    undecided: Sequence[str] = (),
) -> Relabelled:
    """The label and the categories of a row under the crosswalk's policy; some of its labels may be undecided.

    A safe row stays safe, but undecided about what the other policy covers beyond its own. An unsafe row becomes safe
    only if all its categories are outside the other policy. Raises InvalidInput for a category that is not listed.
    """
    violated = _listed(crosswalk, categories or (), "categories")
    open_ = _listed(crosswalk, undecided, "undecided")
    decided = Meaning(False, (), tuple(crosswalk.beyond)) if label == "safe" else meaning(crosswalk, violated)
    if decided.unsafe is None:
        return Relabelled(None, None, (), _unclear(violated))
    if decided.unsafe and not decided.codes:
        return Relabelled("unsafe", None)
    codes = set(decided.undecided).union(*(crosswalk.possible(entry.label).union(entry.codes) for entry in open_))
    left = tuple(code for code in crosswalk.codes if code in codes and code not in decided.codes)
    return Relabelled("unsafe" if decided.unsafe else "safe", decided.codes, left)


def _listed(crosswalk: Crosswalk, labels: Sequence[str], field: str) -> list[Entry]:
    entries = [crosswalk.entry(label) for label in dict.fromkeys(labels)]
    if unknown := entries.count(None):
        raise InvalidInput(
            f"`{field}` names {unknown} labels that crosswalk {crosswalk.name} does not list; it lists: "
            f"{', '.join(entry.label for entry in crosswalk.entries.values())}"
        )
    return [entry for entry in entries if entry is not None]


def _unclear(entries: Sequence[Entry]) -> str:
    """Why an unsafe row with these labels cannot be mapped, by the first of them."""
    first = min((entry for entry in entries if entry.kind == "unmapped"), key=lambda e: e.label, default=None)
    return UNKNOWN if first is None else f"{first.label}: {first.reason}"


@dataclass(slots=True)
class Tally:
    """Counts of rows by result; `read` is the sum of the others, except `undecided`."""

    safe: int = 0
    """Safe rows that stayed so."""
    unsafe: int = 0
    """Unsafe rows that stayed so."""
    became_safe: int = 0
    """Unsafe rows that violate nothing which the other policy covers."""
    undecided: int = 0
    """Rows written that say nothing about some codes."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""

    @property
    def read(self) -> int:
        return self.safe + self.unsafe + self.became_safe + self.dropped.total()

    def as_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "written": self.read - self.dropped.total(),
            "safe": self.safe,
            "unsafe": self.unsafe,
            "became_safe": self.became_safe,
            "undecided": self.undecided,
            "dropped": dict(sorted(self.dropped.items())),
        }


def relabel_file(source: Path, out: Path, crosswalk: Crosswalk) -> Tally:
    """Write the rows of `source` to `out` as rows of the crosswalk's policy, whole or not at all.

    Rows are `{"prompt", "response"? | "messages", "label": "safe|unsafe", "categories"?: [labels]}` of any format of
    `guard.jobs.rows`, and are written as JSONL; other columns are kept. `categories` of an unsafe row is left out where
    it is not known. `undecided` holds the codes about which the row says nothing; what the row itself is `undecided`
    about is carried over. Raises DataError with the line of the first twenty mistakes.
    """
    tally = Tally()
    mistakes: list[str] = []
    broken = 0
    rows = open_rows(source, also=None)
    try:
        with atomic(out) as file:
            for shard in rows.shards(SHARD_ROWS):
                for index in range(len(shard)):
                    try:
                        row = _relabelled(_checked(shard.row(index)), crosswalk, tally)
                    except InvalidInput as mistake:
                        broken += 1
                        place = f"{source}:{shard.number(index)}"
                        mistakes += [f"{place}: {mistake}"] if broken <= MISTAKES_SHOWN else []
                        continue
                    if row is not None:
                        file.write(_encoded(row) + b"\n")
            if broken > MISTAKES_SHOWN:
                mistakes.append(f"… and {broken - MISTAKES_SHOWN} more broken rows")
            if mistakes:
                raise DataError("\n".join(mistakes))
    except OSError as problem:
        raise DataError(f"{out}: {problem.strerror}") from None
    return tally


def _relabelled(row: Mapping[str, Any], crosswalk: Crosswalk, tally: Tally) -> dict[str, Any] | None:
    """The row under the other policy, None if it is left out; counted in `tally`."""
    result = relabel(crosswalk, row["label"], row.get("categories"), row.get("undecided") or ())
    if result.label is None:
        tally.dropped[result.reason] += 1
        return None
    if result.label == "unsafe":
        tally.unsafe += 1
    elif row["label"] == "safe":
        tally.safe += 1
    else:
        tally.became_safe += 1
    tally.undecided += bool(result.undecided)
    kept = {key: value for key, value in row.items() if key not in ("label", "categories", "undecided")}
    known = {} if result.categories is None else {"categories": result.categories}
    return {**kept, "label": result.label, **known, **({"undecided": result.undecided} if result.undecided else {})}


def _checked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    text_only(conversation_from_row(row).messages)
    if row.get("label") not in ("safe", "unsafe"):
        raise InvalidInput('`label` must be "safe" or "unsafe"')
    for key in ("categories", "undecided"):
        labels = row.get(key)
        if isinstance(labels, str) and labels.startswith("["):  # a cell of a table
            labels = parse(labels)
            row = {**row, key: labels}
        if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
            raise InvalidInput(f"`{key}` must be a list of labels; leave it out where they are not known")
    if row.get("categories") and row["label"] == "safe":
        raise InvalidInput("a safe row violates no category; leave `categories` out or change the label")
    return row


def _encoded(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=as_json).encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can write
        return json.dumps(row, default=as_json).encode()
