"""A built data set on disk: its validated manifest, and its parquet files in batches of a few columns."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from guard.data.build.manifest import NAME
from guard.data.build.rule_files import RULES
from guard.data.build.select import SPLITS
from guard.data.build.write import DROPS, PAIRS
from guard.digest import file_digest
from guard.errors import DataError, need

CONFOUNDS = "confounds.json"
BATCH_ROWS = 8192
_TOLERANT = ConfigDict(extra="ignore")  # later versions may add keys


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """The manifest's entry of one source."""

    __pydantic_config__ = _TOLERANT

    name: str
    licence: str
    role: str
    read: int
    kept: int
    dropped: dict[str, int]
    title: str = ""
    upstream: str = ""
    commit: str = ""
    attribution: str = ""
    cautions: str = ""
    files: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyStamp:
    """The policy that the category codes of a data set belong to."""

    __pydantic_config__ = _TOLERANT

    id: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Split:
    """The number of rows of a split."""

    __pydantic_config__ = _TOLERANT

    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The keys of a manifest that are read back. `files` are sha256 by name."""

    __pydantic_config__ = _TOLERANT

    data_digest: str
    config_digest: str
    policy: PolicyStamp
    splits: dict[str, Split]
    files: dict[str, str]
    sources: tuple[SourceEntry, ...]
    config: dict[str, Any]
    warnings: tuple[str, ...] = ()
    noncommercial: tuple[str, ...] = ()  # names of sources
    rules: dict[str, Split] = dataclasses.field(default_factory=dict)  # rows of rules, by split


@dataclass(frozen=True, slots=True)
class Probe:
    """How well a confound alone predicts the label; an AUROC of 0.5 is chance."""

    __pydantic_config__ = _TOLERANT

    auroc: float


@dataclass(frozen=True, slots=True)
class Confound:
    """One confound of a report; `one_sided` values are those that occur (almost) only with one label."""

    __pydantic_config__ = _TOLERANT

    name: str
    values: int = 0
    one_sided_values: int = 0
    one_sided_share: float = 0.0
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class ConfoundReport:
    """How well each confound predicts the label of the training rows; `warn_above` is an AUROC."""

    __pydantic_config__ = _TOLERANT

    rows: int
    warn_above: float
    confounds: tuple[Confound, ...]
    effective_rows: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Confounds:
    """The reports before and after the mixing weights."""

    __pydantic_config__ = _TOLERANT

    before: ConfoundReport
    after: ConfoundReport


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """A folder written by `guard data build`."""

    folder: Path
    manifest: Manifest

    @property
    def labelled(self) -> dict[str, Path]:
        """The files of labelled rows, by split."""
        return {split: path for split in SPLITS if (path := self._file(split))}

    @property
    def pairs(self) -> dict[str, Path]:
        """The files of preference pairs, by name without suffix, like pairs-train."""
        return {name: path for split in SPLITS if (path := self._file(name := f"{PAIRS}-{split}"))}

    @property
    def rules(self) -> dict[str, Path]:
        """The files of rows of rules, by split."""
        return {split: path for split in SPLITS if (path := self._file(f"{RULES}-{split}"))}

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.parquet" if f"{name}.parquet" in self.manifest.files else None

    @property
    def drops(self) -> Path | None:
        """The file of dropped rows and their reasons; older data sets have none."""
        path = self.folder / DROPS
        return path if path.is_file() else None


def open_dataset(folder: Path, verify: bool = False) -> Dataset:
    """The data set in `folder`; `verify` reads every file to compare its digest.

    DataError if the folder is not a data set, or lost or changed a file since it was built.
    """
    path = folder / NAME
    try:
        dataset = Dataset(folder, TypeAdapter(Manifest).validate_json(path.read_bytes()))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; give a folder made by `guard data build`") from None
    except ValidationError as error:
        raise DataError(f"{path}: not a manifest of a build: check {_where(error)}; build it again") from None
    for name, digest in dataset.manifest.files.items():
        _check_file(folder, name, digest if verify else None)
    for split in SPLITS:
        files = [path for path in (dataset.labelled.get(split), dataset.pairs.get(f"{PAIRS}-{split}")) if path]
        _check_rows(folder, split, files, dataset.manifest.splits)
        _check_rows(folder, split, [path for path in (dataset.rules.get(split),) if path], dataset.manifest.rules)
    return dataset


def _check_rows(folder: Path, split: str, files: Sequence[Path], stated: Mapping[str, Split]) -> None:
    rows, expected = sum(map(count_rows, files)), stated.get(split, Split(0)).rows
    if rows != expected:
        raise DataError(f"{folder}: {split} has {rows:,} rows, the manifest states {expected:,}; build it again")


def _check_file(folder: Path, name: str, digest: str | None) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise DataError(f"{folder}: the manifest lists {name!r}, which is not there; build it again")
    if digest is None:
        return
    actual = file_digest(path)
    if actual != digest:
        raise DataError(f"{path}: sha256 is {actual[:12]}, the manifest states {digest[:12]}; build it again")


def count_rows(path: Path) -> int:
    """The number of rows of a parquet file, by its footer."""
    return int(_open(path).metadata.num_rows)


def columns(path: Path) -> list[str]:
    """The column names of a parquet file."""
    return list(_open(path).schema_arrow.names)


def batches(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Any]:
    """The rows as pyarrow record batches of the columns `names`, and of those of `optional` that the file has.

    DataError if the file is damaged or lacks a column.
    """
    arrow = need("pyarrow", "data")
    file = _open(path)
    present = file.schema_arrow.names
    if missing := [name for name in names if name not in present]:
        raise DataError(f"{path}: has no column {', '.join(missing)}; it has: {', '.join(present)}")
    selected = [*names, *(name for name in optional if name in present)]
    try:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=selected)
    except (arrow.ArrowException, OSError):  # Arrow's message may quote a value
        raise DataError(f"{path}: damaged parquet; build it again") from None


def rows_at(path: Path, indices: Collection[int]) -> dict[int, dict[str, Any]]:
    """The rows at `indices` of a parquet file, with all columns; only the row groups that hold them are read."""
    arrow = need("pyarrow", "data")
    file = _open(path)
    result: dict[int, dict[str, Any]] = {}
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        selected = sorted(index for index in indices if start <= index < end)
        if selected:
            try:
                rows = file.read_row_group(group).take([index - start for index in selected]).to_pylist()
            except (arrow.ArrowException, OSError):
                raise DataError(f"{path}: damaged parquet; build it again") from None
            result |= dict(zip(selected, rows, strict=True))
        start = end
    return result


def _open(path: Path) -> Any:
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        return parquet.ParquetFile(path, pre_buffer=False)  # else the whole file is read ahead
    except (arrow.ArrowException, OSError):
        raise DataError(f"{path}: not a readable parquet file; build it again") from None


def hash_texts(texts: Iterable[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64-bit hashes of `texts`: eight bytes per row where the texts would not fit in memory."""
    digests = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def read_confounds(folder: Path) -> Confounds | None:
    """The confound reports of a data set, None if there are none; DataError if they are damaged."""
    path = folder / CONFOUNDS
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Confounds).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: not a report on confounds: check {_where(error)}; build it again") from None


def _where(error: ValidationError) -> str:
    """The invalid keys, without their values."""
    return ", ".join(".".join(map(str, mistake["loc"])) or "document" for mistake in error.errors()[:5])
