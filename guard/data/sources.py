"""Source descriptions: one YAML a public data set, with the rules that read it."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guard import assets, schema
from guard.data import crosswalk as crosswalks
from guard.data.crosswalk import Crosswalk
from guard.data.formats import Format
from guard.data.readers import READERS
from guard.data.row import Kind, Label
from guard.errors import ConfigError, DataError
from guard.policy import Policy, unknown_codes

Role = Literal["train", "weak", "benign", "provenance", "auxiliary", "development", "unlabelled"]


@dataclass(frozen=True, slots=True)
class File:
    """Files of a source: a path or glob under the root. `language` and `part` become fields of its records."""

    __pydantic_config__ = schema.STRICT

    path: str
    language: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Fields whose texts, less the empty ones, are joined. A dotted name goes into objects and lists."""

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...]
    join: str = "\n\n"


@dataclass(frozen=True, slots=True)
class Band:
    """A label for numbers up to `at_most`, or `below`, or for all that remain. Bands are tried in order."""

    __pydantic_config__ = schema.STRICT

    label: Label
    at_most: float | None = None
    below: float | None = None

    def holds(self, number: float) -> bool:
        return (self.at_most is None or number <= self.at_most) and (self.below is None or number < self.below)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The label by the first of `fields` that is present: listed values, then `bands` of a number, then `otherwise`."""

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...] = ()
    safe: tuple[str, ...] = ()
    unsafe: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()
    otherwise: Label | None = None

    def __post_init__(self) -> None:
        if not self.fields and self.otherwise is None:
            raise ValueError("name the `fields` that hold the native label, or give a constant label as `otherwise`")


@dataclass(frozen=True, slots=True)
class CategoryRule:
    """Categories by a crosswalk of the first of `fields` that is present, or the same codes for `always`."""

    __pydantic_config__ = schema.STRICT

    crosswalk: str | None = None
    fields: tuple[str, ...] = ()
    always: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.crosswalk and self.fields) == bool(self.always):
            raise ValueError("give `crosswalk` with `fields`, or `always`")


@dataclass(frozen=True, slots=True)
class LanguageRule:
    """The language by a field, through `names`; a name not listed is the lower-case value itself."""

    __pydantic_config__ = schema.STRICT

    field: str
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that agree in the first of `fields` present belong together; `across`: also with prompts of that text."""

    __pydantic_config__ = schema.STRICT

    fields: tuple[str, ...]
    across: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows after exact de-duplication inside the source."""

    __pydantic_config__ = schema.STRICT

    total: int
    safe: int
    unsafe: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Expected:
    """Counts before and after held-out benchmark rows are removed."""

    __pydantic_config__ = schema.STRICT

    before: Counts
    after: Counts


@dataclass(frozen=True, slots=True)
class Source:
    """One public data set: where it is from, what it may be used for, how it is read, how many rows it must give."""

    __pydantic_config__ = schema.STRICT

    name: str
    title: str
    upstream: str
    commit: str
    licence: str
    attribution: str
    role: Role
    kind: Kind
    files: tuple[File, ...]
    format: Format
    prompt: Text
    label: LabelRule
    expected: Expected
    cautions: str = ""
    response: Text | None = None
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
        if (self.kind == "response") != (self.response is not None):
            raise ValueError(
                f"source {self.name!r} of kind {self.kind} must have `response` only if its kind is response"
            )
        if self.reader is not None and self.reader not in READERS:
            raise ValueError(f"unknown reader {self.reader!r}; allowed: {', '.join(READERS)}")


def names(taxonomy: Path | None = None) -> list[str]:
    """Names of the source descriptions in `taxonomy` (default: the shipped one), sorted."""
    return sorted(path.stem for path in _folder(taxonomy).glob("*.yaml"))


def load(name: str, taxonomy: Path | None = None) -> Source:
    """The description `name` from the folder `sources` of `taxonomy`; ConfigError lists the mistakes of its file."""
    if name not in (known := names(taxonomy)):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no source description {name!r}{hint} (there are: {', '.join(known)})")
    path = _folder(taxonomy) / f"{name}.yaml"
    source = schema.load(path, Source, ConfigError)
    if source.name != name:
        raise ConfigError(f"{path}: `name` is {source.name!r} but the file is called {name!r}; they must agree")
    return source


def _folder(taxonomy: Path | None) -> Path:
    return (taxonomy or assets.asset("taxonomy")) / "sources"


def load_crosswalk(source: Source, taxonomy: Path | None = None) -> Crosswalk | None:
    """The crosswalk that the source's category rule names, if it names one."""
    if source.categories is None or source.categories.crosswalk is None:
        return None
    return crosswalks.load(source.categories.crosswalk, taxonomy)


def check_codes(source: Source, table: Crosswalk | None, policy: Policy) -> None:
    """ConfigError if the source, or its crosswalk, names a category that `policy` lacks."""
    if table is not None:
        crosswalks.check_codes(table, policy)
    for code in source.categories.always if source.categories else ():
        if code not in policy.codes:
            raise ConfigError(f"source {source.name}: `categories.always`: {unknown_codes(policy, [code])}")


def home(source: Source, root: Path) -> Path:
    """The folder that the source's file paths start from; DataError if --root is not a folder."""
    if source.within == "taxonomy":
        return assets.asset("taxonomy")
    if not root.is_dir():
        raise DataError(f"data root {root} is not a folder; give the folder that holds `raw/` with --root")
    return root


def paths(source: Source, root: Path) -> list[tuple[File, Path]]:
    """The files of a source, globs in sorted order; DataError if the root or a file is missing."""
    folder = home(source, root)
    found: list[tuple[File, Path]] = []
    for file in source.files:
        matches = sorted(path for path in folder.glob(file.path) if path.is_file())
        if not matches:
            raise DataError(
                f"source {source.name}: no file {file.path} under {folder}; fetch it from {source.upstream}"
            )
        found += [(file, path) for path in matches]
    return found


def digests(source: Source, root: Path) -> dict[str, str]:
    """sha256 (hex) of every raw file by its path under its folder."""
    folder = home(source, root)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for _, path in paths(source, root)
    }
