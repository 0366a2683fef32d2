"""What a transfer evaluation is asked to do: the folds, and the recipes that compete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from guard import schema
from guard.errors import ConfigError
from guard.schema import STRICT, Misplaced

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


@dataclass(frozen=True, slots=True)
class Fold:
    """Sources that are held out together, or rules of policies that no training row is judged by.

    sources: as the built data name them. rules: a split of the rows of rules, dev or development, instead; each row is
    scored under the policy that it brings, and no source is held out. kinds: only rows of these kinds are scored
    (prompt, response, text); empty: all. beside: how many rows, at most, of the label that the held-out rows lack (or
    have fewest of) are scored beside them, taken from the dev and test splits of the other sources.
    """

    __pydantic_config__ = STRICT

    sources: tuple[str, ...] = ()
    rules: Literal["dev", "development"] | None = None
    kinds: tuple[str, ...] = ()
    beside: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if bool(self.sources) == (self.rules is not None):
            raise Misplaced("a fold needs either `sources` or `rules`")
        if self.rules is not None and (self.kinds or self.beside):
            raise Misplaced("`kinds` and `beside` are of folds with `sources`")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that competes: a training configuration and its changed keys; `export`: options of `guard export`."""

    __pydantic_config__ = STRICT

    config: str
    changes: Mapping[str, Any] = Field(default_factory=dict)
    export: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferConfig:
    """See training/configs/transfer.yaml."""

    __pydantic_config__ = STRICT

    data: str
    policy: str
    out: str
    folds: Annotated[Mapping[Name, Fold], Field(min_length=1)]
    candidates: Annotated[Mapping[Name, Candidate], Field(min_length=1)]
    ensembles: Mapping[Name, tuple[str, ...]] = Field(default_factory=dict)
    train_rows: Count = 6000
    dev_rows: Count = 400
    test_rows: Count = 1000
    recall: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    seed: int = 7

    def __post_init__(self) -> None:
        for name, members in self.ensembles.items():
            for member in members:
                if member not in self.candidates:
                    allowed = ", ".join(self.candidates)
                    raise Misplaced(f"no candidate {member!r}; allowed: {allowed}", "ensembles", name)
            if name in self.candidates:
                raise Misplaced("has the name of a candidate; choose another", "ensembles", name)
        for name, fold in self.folds.items():
            for other, second in self.folds.items():
                if other > name and (both := set(fold.sources) & set(second.sources)) and fold.kinds == second.kinds:
                    raise Misplaced(f"{', '.join(sorted(both))}: also held out in fold {other}", "folds", name)


def load(path: Path, overrides: tuple[str, ...] = ()) -> TransferConfig:
    """The configuration at `path`. Raises ConfigError that names file, line, key and what is allowed."""
    return schema.load(path, TransferConfig, ConfigError, overrides)
