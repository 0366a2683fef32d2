"""Source descriptions: one YAML file per public data set, with the rules by which its rows are read."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guard import assets, schema
from guard.data.row import Kind, Label
from guard.data.sources.formats import Format
from guard.data.sources.readers import READERS
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, nearest
from guard.policy import Policy, unknown_codes
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk

Role = Literal["train", "weak", "benign", "provenance", "auxiliary", "development", "unlabelled", "preference", "own"]
_NONCOMMERCIAL = re.compile(r"\bNC\b|non-?commercial|research[- ]only", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """Files of a source: a path or glob under the root. `language` and `part` become fields of their records."""

    __pydantic_config__ = schema.STRICT

    path: str
    language: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set of the Hugging Face Hub; a local copy in `hub/<source name>` under the root takes precedence."""

    __pydantic_config__ = schema.STRICT

    dataset: str
    split: str
    config: str | None = None
    revision: str | None = None


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
class Counts:
    """Row counts after exact deduplication within the source."""

    __pydantic_config__ = schema.STRICT

    total: int
    safe: int
    unsafe: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Expected:
    """The counts before and after held-out benchmark rows are removed."""

    __pydantic_config__ = schema.STRICT

    before: Counts
    after: Counts


@dataclass(frozen=True, slots=True)
class Source:
    """One data set: its origin and licence, the rules by which its rows are read, and its expected row counts."""

    __pydantic_config__ = schema.STRICT

    name: str
    title: str
    licence: str
    role: Role
    kind: Kind | Literal["either"]  # either: a row with a response is a response, one without is a prompt
    label: LabelRule
    upstream: str = ""
    commit: str = ""
    attribution: str = ""
    files: tuple[File, ...] = ()
    hub: Hub | None = None
    format: Format | None = None
    prompt: Text | None = None
    expected: Expected | None = None
    cautions: str = ""
    response: Text | None = None
    rejected: Text | None = None
    messages: str | None = None  # the field that holds the turns: all of them, or those before `response`
    id: str | None = None  # the field that holds an id, by which people find the row
    own: bool = False  # a user's own data: anomalies in a row are errors, where public sources skip them
    categories: CategoryRule | None = None
    language: str | LanguageRule | None = None
    group: Group | None = None
    reader: str | None = None
    at: str | None = None
    require: tuple[str, ...] = ()
    within: Literal["root", "taxonomy"] = "root"  # where `files` lie: under --root, or shipped in the taxonomy
    encoding: str = "utf-8"
    undecodable: Literal["strict", "replace"] = "strict"

    def __post_init__(self) -> None:
        if bool(self.files) == (self.hub is not None):
            raise ValueError(f"source {self.name!r} must have `files` or `hub`, not both")
        if self.files and self.format is None:
            raise ValueError(f"source {self.name!r} has `files` but no `format`")
        if self.prompt is None and self.messages is None:
            raise ValueError(f"source {self.name!r} needs `prompt` or `messages`")
        answered = {"response": True, "pair": True, "either": None}.get(self.kind, False)
        if answered is not None and answered != (self.response is not None) and self.messages is None:
            raise ValueError(
                f"source {self.name!r} of kind {self.kind} must have `response` only if its kind is response or pair"
            )
        if (self.kind == "pair") != (self.rejected is not None):
            raise ValueError(f"source {self.name!r} of kind {self.kind} must have `rejected` only if its kind is pair")
        if self.reader is not None and self.reader not in READERS:
            raise ValueError(f"unknown reader {self.reader!r}; allowed: {', '.join(READERS)}")

    @property
    def noncommercial(self) -> bool:
        """Whether the name of the licence says that it forbids commercial use."""
        return _NONCOMMERCIAL.search(self.licence) is not None


def names(taxonomy: Path | None = None) -> list[str]:
    """The names of the source descriptions in `taxonomy` (default: the shipped one), sorted."""
    return sorted(path.stem for path in _folder(taxonomy).glob("*.yaml"))


def load(name: str, taxonomy: Path | None = None) -> Source:
    """The description `name` from the folder `sources` of `taxonomy`; ConfigError lists every mistake in its file."""
    if name not in (known := names(taxonomy)):
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"no source description {name!r}{hint} (available: {', '.join(known)})")
    path = _folder(taxonomy) / f"{name}.yaml"
    source = schema.load(path, Source, ConfigError)
    if source.name != name:
        raise ConfigError(f"{path}: `name` is {source.name!r} but the file is called {name!r}; they must agree")
    return source


def _folder(taxonomy: Path | None) -> Path:
    return (taxonomy or assets.asset("taxonomy")) / "sources"


def load_crosswalk(source: Source, taxonomy: Path | None = None) -> Crosswalk | None:
    """The crosswalk that the source's category rule names, None if it names none."""
    if source.categories is None or source.categories.crosswalk is None:
        return None
    return crosswalks.load(source.categories.crosswalk, taxonomy)


def check_codes(source: Source, table: Crosswalk | None, policy: Policy) -> None:
    """ConfigError if the source or its crosswalk names a category that `policy` lacks."""
    if table is not None:
        crosswalks.check_codes(table, policy)
    rule = source.categories
    codes = () if rule is None else (*rule.always, *(rule.flags.values() if table is None else ()))
    for code in codes:
        if code not in policy.codes:
            raise ConfigError(f"source {source.name}: `categories`: {unknown_codes(policy, [code])}")


def home(source: Source, root: Path) -> Path:
    """The folder that the source's file paths are relative to; DataError if --root is not a folder."""
    if source.within == "taxonomy":
        return assets.asset("taxonomy")
    if not root.is_dir():
        raise DataError(f"data root {root} is not a folder; give the folder that holds `raw/` with --root")
    return root


def paths(source: Source, root: Path) -> list[tuple[File, Path]]:
    """The files of a source, those of a glob sorted; DataError if the root or a file is missing."""
    folder = home(source, root)
    result: list[tuple[File, Path]] = []
    for file in source.files:
        matches = sorted(path for path in folder.glob(file.path) if path.is_file())
        if not matches:
            raise DataError(
                f"source {source.name}: no file {file.path} under {folder}; fetch it from {source.upstream}"
            )
        result += [(file, path) for path in matches]
    return result


def digests(source: Source, root: Path) -> dict[str, str]:
    """The sha256 (hex) of every raw file by relative path; of a Hub data set without local copy, its revision by id."""
    folder = home(source, root)
    files = [path for _, path in paths(source, root)]
    if source.hub is not None:
        files = sorted(path for path in local_copy(source, root).rglob("*") if path.is_file())
        if not files:
            return {source.hub.dataset: source.hub.revision or "unpinned"}
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def local_copy(source: Source, root: Path) -> Path:
    """The folder in which a local copy of a Hub data set is looked for."""
    return root / "hub" / source.name
