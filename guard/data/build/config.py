"""The configuration of a data build."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from guard import schema
from guard.data.build.mix import Mixing
from guard.data.build.rules import Rules
from guard.data.build.split import Shares
from guard.data.ingest.clean import Cleaning
from guard.data.row import Label
from guard.data.sources.user_files import UserData
from guard.errors import ConfigError
from guard.schema import NotNegative, Positive


@dataclass(frozen=True, slots=True)
class SourceUse:
    """A source to train on: the `weight` of each of its rows, and a `cap` on their number (a fixed sample).

    labels: factors on the weight by label, for a source whose labels are not equally good.
    """

    __pydantic_config__ = schema.STRICT

    source: str
    weight: Positive = 1.0
    cap: PositiveInt | None = None
    labels: Mapping[Label, NotNegative] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """The configuration of a data set. An empty `languages` keeps all languages.

    data: the user's own files. decontaminate: the folder of fingerprints under the data root; against: files of
    held-out texts, relative to the configuration file. Rows that repeat either are dropped. near_duplicates: the
    estimated Jaccard similarity of word 3-grams from which the later of two texts of one label is dropped. taxonomy: a
    folder with `sources/` and `crosswalks/`, relative to the configuration file, that replaces the shipped one.
    """

    __pydantic_config__ = schema.STRICT

    policy: str
    seed: int = 0
    sources: tuple[SourceUse, ...] = ()
    data: tuple[UserData, ...] = ()
    decontaminate: str | None = None
    against: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    development: tuple[str, ...] = ()
    cleaning: Cleaning = dataclasses.field(default_factory=Cleaning)
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    mixing: Mixing = dataclasses.field(default_factory=Mixing)
    rules: Rules = dataclasses.field(default_factory=Rules)
    shares: Shares = dataclasses.field(default_factory=Shares)
    taxonomy: str | None = None

    def __post_init__(self) -> None:
        used = [*(use.source for use in self.sources), *self.development, *(entry.name for entry in self.data)]
        repeated = sorted({name for name in used if used.count(name) > 1})
        if repeated:
            raise ValueError(f"source {repeated[0]!r} is listed twice; list it once, under `sources` or `development`")
        if not self.sources and not self.data:
            raise ValueError("nothing to build from; list `sources` (see `guard data list`) or your own `data`")

    @property
    def uses(self) -> dict[str, SourceUse | UserData]:
        """The training sources and their settings, by name."""
        return {use.source: use for use in self.sources} | {entry.name: entry for entry in self.data}

    @property
    def digest(self) -> str:
        """sha256 (hex) of the configuration as sorted-key JSON."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def load(path: Path) -> BuildConfig:
    """The configuration at `path`; ConfigError lists every mistake with its line."""
    return schema.load(path, BuildConfig, ConfigError)


def taxonomy_folder(config: BuildConfig, path: Path) -> Path | None:
    """The folder of the configuration's own taxonomy, None for the shipped one; ConfigError if it does not exist."""
    if config.taxonomy is None:
        return None
    folder = path.parent / config.taxonomy
    if not folder.is_dir():
        raise ConfigError(f"{path}: `taxonomy`: {folder} is not a folder")
    return folder
