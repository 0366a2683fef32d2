"""The row that the steps of a data build pass on: one labelled text of one source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from guard.conversation import Role

Label = Literal["safe", "unsafe", "unlabelled"]
LABELS: tuple[Label, ...] = ("safe", "unsafe", "unlabelled")
Kind = Literal["prompt", "response", "text", "pair"]
UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a text is judged by: the platform or institution that has it, its name, and what it says."""

    domain: str
    name: str
    definition: str


@dataclass(frozen=True, repr=False)
class Row:
    """One text with its label, or a preference pair without one.

    response: None unless the kind is response or pair; of a pair, the preferred response, and `rejected` the other.
    turns: the (role, content) before the response, or all of them if there is none; empty if `prompt` is the only one,
    or is empty and nothing comes before the response.
    categories: None if the source does not say. undecided: codes about which it says neither yes nor no. groups: keys;
    rows that share one stay in one split. place, given_id: where the row was read, and its id there, for people.

    rule: the label says whether the text breaks this rule, and nothing else; None: it is of the whole policy.
    instructed: an instruction stands behind the text that the label is about. overlap: the largest share of the word
    3-grams of a text that breaks the rule which this safe text repeats. symbols: texts that differ in emoji alone are
    different texts.
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
    rule: Rule | None = None
    symbols: bool = False
    instructed: bool = False
    overlap: float = 0.0

    def __repr__(self) -> str:  # user text never reaches a log or a traceback
        return f"Row({self.source}, {self.kind}, {self.label}, {self.id})"

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the source, the texts and what the rule says."""
        parts = [self.source, self.prompt, *(text for text in (self.response, self.rejected) if text is not None)]
        if self.rule is not None:
            parts += [self.rule.domain, self.rule.definition]
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def messages(self) -> tuple[tuple[Role, str], ...]:
        """(role, content) of every turn; of a pair, those before the two responses."""
        alone: tuple[tuple[Role, str], ...] = (("user", self.prompt),) if self.prompt or self.response is None else ()
        turns = self.turns or alone
        return (*turns, ("assistant", self.response)) if self.kind == "response" and self.response else turns

    @property
    def judged(self) -> str:
        """The text that the label is about."""
        return self.prompt if self.response is None else self.response


@dataclass(frozen=True, slots=True)
class Drop:
    """A dropped row and the reason; `detail` is the rule that it broke, or the id of the row that it duplicates.

    `id` is empty and `label` None if the record was too broken to be parsed into a row.
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
