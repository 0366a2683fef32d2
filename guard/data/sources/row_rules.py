"""The rules by which a source's records become rows: their texts, labels, categories, languages and groups."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from guard import schema
from guard.data.row import Label


@dataclass(frozen=True, slots=True)
class Text:
    """Fields whose non-empty texts are joined. A dotted name reaches into objects and lists."""

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...]
    join: str = "\n\n"


@dataclass(frozen=True, slots=True)
class Band:
    """A label for numbers up to `at_most`, below `below`, or any number. Bands are tried in order."""

    __pydantic_config__ = schema.STRICT

    label: Label
    at_most: float | None = None
    below: float | None = None

    def holds(self, number: float) -> bool:
        return (self.at_most is None or number <= self.at_most) and (self.below is None or number < self.below)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The label by the first of `fields` that is present: `bands` of a number, then listed values, then `otherwise`.

    With `flags` it follows the category flags: unsafe if one is set, safe if all are present and none is set.
    """

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...] = ()
    safe: tuple[str, ...] = ()
    unsafe: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()
    otherwise: Label | None = None
    flags: bool = False

    def __post_init__(self) -> None:
        if not self.fields and self.otherwise is None and not self.flags:
            raise ValueError("name the `fields` that hold the native label, or give a constant label as `otherwise`")


@dataclass(frozen=True, slots=True)
class CategoryRule:
    """Categories by the first of `fields` that is present, by `flags` (a column per category), or constant (`always`).

    A field holds a label, a list of labels, or a text of several labels separated by `separator`. Labels and the values
    of `flags` are native labels if there is a crosswalk, else codes of the policy. A missing flag leaves its code
    undecided, as do the codes in the field `undecided`.
    """

    __pydantic_config__ = schema.STRICT

    crosswalk: str | None = None
    fields: tuple[str, ...] = ()
    separator: str | None = None
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    always: tuple[str, ...] = ()
    undecided: str | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.fields, self.flags, self.always))) != 1:
            raise ValueError("give one of `fields` (with or without `crosswalk`), `flags` and `always`")


@dataclass(frozen=True, slots=True)
class LanguageRule:
    """The language by a field, mapped by `names`; a value that is not listed is lower-cased.

    otherwise: the language of rows whose field is missing or empty.
    """

    __pydantic_config__ = schema.STRICT

    field: str
    names: dict[str, str]
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows with the same value of the first present of `fields` stay together; `across`: also with equal prompts."""

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...]
    across: bool = False


@dataclass(frozen=True, slots=True)
class RuleFields:
    """The fields of the rule that a row's label is of, and of the marks that `rule_posts` makes.

    topics: the file in `topics` of the taxonomy that says which rules are unrelated.
    """

    __pydantic_config__ = schema.STRICT

    name: str
    definition: str
    topics: str
    domain: str = "domain"
    instructed: str = "instructed"
    overlap: str = "overlap"
