"""Source descriptions: one YAML file per public data set, with the rules by which its rows are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guard import assets, schema
from guard.data.row import Kind
from guard.data.sources import installed as packages
from guard.data.sources.formats import Format
from guard.data.sources.installed import Installed
from guard.data.sources.readers import READERS
from guard.data.sources.row_rules import CategoryRule, Group, LabelRule, LanguageRule, RuleFields, Text
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, nearest
from guard.policy import Policy, unknown_codes
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk

Role = Literal[
    "train", "weak", "benign", "provenance", "auxiliary", "rule", "development", "unlabelled", "preference", "own"
]
_NONCOMMERCIAL = re.compile(r"\bNC\b|non-?commercial|research[- ]only", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """Files of a source: a path or glob under the root. `language` and `part` become fields of their records.

    format: where it is not that of the source.
    """

    __pydantic_config__ = schema.STRICT

    path: str
    language: str | None = None
    part: str | None = None
    format: Format | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set of the Hugging Face Hub; a local copy in `hub/<source name>` under the root takes precedence."""

    __pydantic_config__ = schema.STRICT

    dataset: str
    split: str
    config: str | None = None
    revision: str | None = None


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
    installed: Installed | None = None  # files of the installed packages, after those of `files`
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
    rule: RuleFields | None = None  # the label is that of one rule, which every row names
    symbols: bool = False  # texts are about emoji: those that differ in them alone are no duplicates
    reader: str | None = None
    at: str | None = None
    require: tuple[str, ...] = ()
    within: Literal["root", "taxonomy"] = "root"  # where `files` lie: under --root, or shipped in the taxonomy
    encoding: str = "utf-8"
    undecodable: Literal["strict", "replace"] = "strict"

    def __post_init__(self) -> None:
        if bool(self.files or self.installed) == (self.hub is not None):
            raise ValueError(f"source {self.name!r} must have `files` (or `installed`) or `hub`, not both")
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
        if self.role == "rule" and self.rule is None:
            raise ValueError(f"source {self.name!r} of role rule must say under `rule` where its rows name theirs")
        if self.rule is not None and (self.kind != "text" or self.own):
            raise ValueError(f"source {self.name!r} has a `rule`; its kind must be text")
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
    """The sha256 (hex) of every raw file by relative path; of a Hub data set without local copy, its revision by id.

    Of an installed package, its version and licence by its name.
    """
    folder = home(source, root)
    files = [path for _, path in paths(source, root)]
    if source.hub is not None:
        files = sorted(path for path in local_copy(source, root).rglob("*") if path.is_file())
        if not files:
            return {source.hub.dataset: source.hub.revision or "unpinned"}
    found = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    return found if source.installed is None else {**found, **packages.digests()}


def local_copy(source: Source, root: Path) -> Path:
    """The folder in which a local copy of a Hub data set is looked for."""
    return root / "hub" / source.name
