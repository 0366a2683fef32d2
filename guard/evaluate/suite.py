"""Evaluation sets: cases, loaded suites, and descriptions of named benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.conversation import Conversation, Label
from guard.data.sources.description import Hub
from guard.errors import InvalidInput


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """A labelled conversation of a set.

    truth: whether the row violates a code; codes that are not in it are unknown. subset: the set's own subset that the
    row belongs to, or "". id: by which the row can be found. refusal: whether the judged answer refuses, None if the
    set does not say.
    """

    conversation: Conversation
    label: Label
    truth: Mapping[str, bool]
    subset: str = ""
    id: str = ""
    refusal: bool | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A loaded set. `digest` is the sha256 (hex) of its files, or of its rows if there are no files.

    cautions: what a reader of the numbers must know. left_out: the number of records without a case, by the convention
    or because the judged message is empty.
    """

    name: str
    title: str
    upstream: str
    licence: str
    digest: str
    cases: tuple[Case, ...] = field(repr=False)
    cautions: str = ""
    left_out: int = 0


Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A public benchmark and its scoring convention.

    read: the cases of a record, none if the convention leaves it out; InvalidInput if the record is broken. path: its
    file under the root (.csv, .json, .jsonl, .jsonl.gz), or a pattern of several. hub: a data set of the Hugging Face
    Hub instead of files. published: rows and unsafe rows of the published tables; a copy with other counts is refused
    if `exact`, else it gets a caution, because the convention could not be tried on the live data.
    """

    title: str
    upstream: str
    licence: str
    read: Callable[[Fields], Sequence[Case]]
    path: str = ""
    hub: Hub | None = None
    published: tuple[int, int] | None = None
    exact: bool = False
    cautions: str = ""


def text(record: Fields, name: str) -> str:
    """The text of a column; InvalidInput if it is missing or not a text."""
    value = record.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"has no text `{name}`")
    return value


def one_of(record: Fields, name: str, labels: Mapping[str, Label]) -> Label:
    """The label of a column's value, compared case-insensitively; InvalidInput lists the known values."""
    value = str(record.get(name)).strip().lower()
    if value not in labels:
        raise InvalidInput(f"`{name}` is none of: {', '.join(labels)}")
    return labels[value]
