"""What is evaluated on: cases, suites that have been read, and descriptions of named benchmarks."""

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

    truth: for every code of which the set tells, whether the row violates it; a code that is not in it is unknown.
    subset: the set's own part that the row belongs to, or "". id: where the row is found again. refusal: whether the
    judged answer declines, None if the set does not say.
    """

    conversation: Conversation
    label: Label
    truth: Mapping[str, bool]
    subset: str = ""
    id: str = ""
    refusal: bool | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A set that has been read. `digest` is the sha256 (hex) of its files, or of the rows where there are none.

    cautions: what a reader of the numbers must know. left_out: records that the convention, or an empty judged
    message, leaves without a case.
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
    """A public benchmark and the convention that it is scored by.

    read: the cases of a record, none if the convention leaves it out; InvalidInput if the record is broken.
    path: its file under the root (.csv, .json, .jsonl, .jsonl.gz), or a pattern of several. hub: a data set of the
    Hugging Face Hub in place of files. published: rows and unsafe rows of the published tables; a copy with others is
    refused if `exact`, and told of otherwise, because the convention could not be tried on the live data.
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
    """The text of a column; InvalidInput if the record has it not."""
    value = record.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"has no text `{name}`")
    return value


def one_of(record: Fields, name: str, labels: Mapping[str, Label]) -> Label:
    """The label that the value of a column stands for, compared without case; InvalidInput lists those that do."""
    value = str(record.get(name)).strip().lower()
    if value not in labels:
        raise InvalidInput(f"`{name}` is none of: {', '.join(labels)}")
    return labels[value]
