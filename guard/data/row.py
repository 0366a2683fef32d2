"""The row that the steps of a data build hand on: one labelled text of one source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from guard.conversation import Role

Label = Literal["safe", "unsafe", "unlabelled"]
LABELS: tuple[Label, ...] = ("safe", "unsafe", "unlabelled")
Kind = Literal["prompt", "response", "text", "pair"]


@dataclass(frozen=True, repr=False)
class Row:
    """One text with its label, or a pair of answers without one.

    `response` is None unless the kind is response or pair; of a pair it is the preferred answer, `rejected` the other.
    `turns` are the (role, content) before the response, or all of them where there is none; empty where `prompt` is the
    only one, or is empty and nothing comes before the response. `categories` is None where the source tells nothing;
    `undecided` are codes about which it says neither yes nor no. `groups` are keys: rows that share one must stay in
    one split. `place` and `given_id` tell people where the row was read, and what it is called there.
    """

    source: str
    kind: Kind
    prompt: str
    response: str | None
    label: Label
    categories: tuple[str, ...] | None
    language: str
    groups: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    rejected: str | None = None
    turns: tuple[tuple[Role, str], ...] = ()
    place: str = ""
    given_id: str = ""

    def __repr__(self) -> str:  # user text never reaches a log or a traceback
        return f"Row({self.source}, {self.kind}, {self.label}, {self.id})"

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the source and the texts."""
        parts = [self.source, self.prompt, *(text for text in (self.response, self.rejected) if text is not None)]
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def messages(self) -> tuple[tuple[Role, str], ...]:
        """(role, content) of every turn; of a pair, those before the two answers."""
        alone: tuple[tuple[Role, str], ...] = (("user", self.prompt),) if self.prompt or self.response is None else ()
        turns = self.turns or alone
        return (*turns, ("assistant", self.response)) if self.kind == "response" and self.response else turns

    @property
    def judged(self) -> str:
        """The text that the label is about."""
        return self.prompt if self.response is None else self.response


@dataclass(frozen=True, slots=True)
class Drop:
    """A row left out of the build, and why; `detail` is the rule that it broke, or the id of the row that stays.

    `id` is empty and `label` None where the record was too broken to make a row of.
    """

    source: str
    id: str
    label: Label | None
    place: str
    reason: str
    detail: str = ""

    @classmethod
    def of(cls, row: Row, reason: str, detail: str = "") -> Drop:
        return cls(row.source, row.id, row.label, row.place, reason, detail)
