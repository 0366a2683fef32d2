"""The row that the steps of a data build hand on: one labelled text of one source."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Label = Literal["safe", "unsafe", "unlabelled"]
LABELS: tuple[Label, ...] = ("safe", "unsafe", "unlabelled")
Kind = Literal["prompt", "response", "text"]


@dataclass(frozen=True, repr=False)
class Row:
    """One text with its label. `response` is None unless the kind is response.

    `categories` is None where the source tells nothing. `groups` are keys: rows that share one must stay in one split.
    """

    source: str
    kind: Kind
    prompt: str
    response: str | None
    label: Label
    categories: tuple[str, ...] | None
    language: str
    groups: tuple[str, ...] = ()

    def __repr__(self) -> str:  # user text never reaches a log or a traceback
        return f"Row({self.source}, {self.kind}, {self.label}, {self.id})"

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the source and the texts."""
        parts = [self.source, self.prompt] + ([] if self.response is None else [self.response])
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def judged(self) -> str:
        """The text that the label is about."""
        return self.prompt if self.response is None else self.response


@dataclass(frozen=True, slots=True)
class Drop:
    """A row left out of the build, and why."""

    row: Row
    reason: str


def label_counts(rows: Iterable[Row]) -> dict[str, int]:
    """Rows in all and per label: `{"total", "safe", "unsafe", "unlabelled"}`."""
    counts = Counter(row.label for row in rows)
    return {"total": counts.total(), **{label: counts[label] for label in LABELS}}
