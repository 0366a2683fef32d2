"""Users' own labelled files: a short description of columns and label words, turned into a `Source`.

    data:
      - path: tickets.xlsx                # beside the configuration file; .csv, .jsonl, .parquet, a saved data set …
        columns: {prompt: question, response: answer, label: verdict, categories: topics}
        labels: {safe: [ok, fine], unsafe: [bad]}

A column that is not named is the one of that name, if there is one. `prompt` (or `text`) is what a user sent, and is
judged unless the row has a `response`; of `messages` the last one is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from guard import schema
from guard.data.row import UNKNOWN_LANGUAGE, Label
from guard.data.sources.description import Role
from guard.data.sources.formats import Format
from guard.errors import ConfigError
from guard.policy.crosswalk import fold
from guard.schema import Positive

Word = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what. `chosen` and `rejected` are the two answers of a preference pair."""

    __pydantic_config__ = schema.STRICT

    text: str | None = None
    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None
    categories: str | None = None
    undecided: str | None = None
    id: str | None = None
    language: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("text", "prompt", "messages") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a row has one of text, prompt and messages; both {given[0]} and {given[1]} are given")
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("a preference pair needs both `chosen` and `rejected`")
        if self.chosen is not None and self.response is not None:
            raise ValueError("a preference pair has no `response` besides `chosen` and `rejected`")


@dataclass(frozen=True, slots=True)
class Labels:
    """The words that stand for each label, compared without case. `otherwise`: any other word, or no label column."""

    __pydantic_config__ = schema.STRICT

    safe: tuple[Word, ...] = ()
    unsafe: tuple[Word, ...] = ()
    unlabelled: tuple[Word, ...] = ()
    otherwise: Label | None = None

    def __post_init__(self) -> None:
        words = [word for name in ("safe", "unsafe", "unlabelled") for word in set(spelled(getattr(self, name)))]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(f"{twice[0]!r} is listed under two labels; list it once")


@dataclass(frozen=True, slots=True)
class Categories:
    """What the column of categories, or the columns of `flags`, hold: codes, or the labels of a `crosswalk`.

    separator: between several in one text; default a comma, unless a label of the crosswalk has one in it. flags: the
    code or label that each column says yes or no to; a cell without either leaves it undecided. crosswalk: a shipped
    one by name, or codes by label (none: nothing can be said). always: the codes of every unsafe row.
    """

    __pydantic_config__ = schema.STRICT

    separator: Annotated[str, Field(min_length=1)] | None = None
    flags: dict[str, str] = field(default_factory=dict)
    crosswalk: str | dict[str, str | tuple[str, ...]] | None = None
    always: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.flags and self.always:
            raise ValueError("give `flags` or `always`, not both")
        if self.always and self.crosswalk is not None:
            raise ValueError("`always` names codes of the policy; leave `crosswalk` out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How the rows of a file are to be read; all of it may be left out where the columns have the usual names.

    at: the sheet of a workbook, or the key of the list in a JSON object. split: of a folder that has several, or `all`.
    """

    __pydantic_config__ = schema.STRICT

    licence: str = "not stated"
    language: str = UNKNOWN_LANGUAGE  # to be identified
    columns: Columns = field(default_factory=Columns)
    labels: Labels = field(default_factory=Labels)
    categories: Categories = field(default_factory=Categories)
    format: Format | None = None
    at: str | None = None
    split: str | None = None
    encoding: str = "utf-8"
    on_broken: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        try:
            "".encode(self.encoding)
        except LookupError:
            raise schema.Misplaced("is not an encoding of text, such as utf-8, utf-16 or latin-1", "encoding") from None
        if self.categories.flags and self.columns.categories is not None:
            raise schema.Misplaced("categories are in a column or in `flags`, not both", "categories", "flags")
        if self.categories.always and self.columns.categories is not None:
            raise schema.Misplaced("categories are in a column or `always` the same", "categories", "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserData(Mapping):
    """A user's file or folder in a data build: `weight` of each of its rows, and at most `cap` of them."""

    __pydantic_config__ = schema.STRICT

    path: Annotated[str, Field(min_length=1)]
    name: str = ""  # default: the file's, without its suffix
    weight: Positive = 1.0
    cap: PositiveInt | None = None
    role: Role = "own"

    def __post_init__(self) -> None:
        Mapping.__post_init__(self)
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name.partition(".")[0])


def load_mapping(path: Path) -> Mapping:
    """The mapping file at `path`; ConfigError lists every mistake with its line."""
    return schema.load(path, Mapping, ConfigError)


def of_file(path: Path, mapping: Mapping | None = None) -> UserData:
    """The data at `path`, read by a mapping."""
    settings = {} if mapping is None else {f.name: getattr(mapping, f.name) for f in dataclasses.fields(Mapping)}
    return UserData(path=str(path), **settings)


def spelled(words: Sequence[Word]) -> tuple[str, ...]:
    """Label words as files write them: a whole number also with the `.0` that it has in a column with missing ones."""
    found: dict[str, None] = {}
    for word in words:
        text = fold(int(word) if isinstance(word, float) and word.is_integer() else word)
        found |= dict.fromkeys((fold(word), text))
        if text.removeprefix("-").isdecimal():
            found[f"{text}.0"] = None
    return tuple(found)
