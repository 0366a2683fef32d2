"""A finished build as it lies on disk: its manifest, checked, and its parquet files in batches of a few columns."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from guard.data.build.manifest import NAME
from guard.data.build.select import SPLITS
from guard.data.build.write import DROPS, PAIRS
from guard.digest import file_digest
from guard.errors import DataError, need

CONFOUNDS = "confounds.json"
BATCH_ROWS = 8192
_TOLERANT = ConfigDict(extra="ignore")  # a later build may tell more


@dataclass(frozen=True, slots=True)
class Part:
    """What the manifest tells of one source."""

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
    """Which policy the codes of a build are of."""

    __pydantic_config__ = _TOLERANT

    id: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Split:
    """How many rows a split has."""

    __pydantic_config__ = _TOLERANT

    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The part of a manifest that is read back. `files` are sha256 by name."""

    __pydantic_config__ = _TOLERANT

    data_digest: str
    config_digest: str
    policy: PolicyStamp
    splits: dict[str, Split]
    files: dict[str, str]
    sources: tuple[Part, ...]
    config: dict[str, Any]
    warnings: tuple[str, ...] = ()
    noncommercial: tuple[str, ...] = ()  # names of sources


@dataclass(frozen=True, slots=True)
class Probe:
    """How far a confound alone gets in telling the label: 0.5 is chance."""

    __pydantic_config__ = _TOLERANT

    auroc: float


@dataclass(frozen=True, slots=True)
class Confound:
    """One confound of a report; the shares and counts are of values that stand (nearly) always beside one label."""

    __pydantic_config__ = _TOLERANT

    name: str
    values: int = 0
    one_sided_values: int = 0
    one_sided_share: float = 0.0
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class ConfoundReport:
    """What predicts the label of the training rows; `warn_above` is an AUROC."""

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
class Built:
    """A folder that `guard data build` made."""

    folder: Path
    manifest: Manifest

    @property
    def labelled(self) -> dict[str, Path]:
        """The files of labelled rows by split."""
        return {split: path for split in SPLITS if (path := self._file(split))}

    @property
    def pairs(self) -> dict[str, Path]:
        """The files of preference pairs by their names without the suffix, like pairs-train."""
        return {name: path for split in SPLITS if (path := self._file(name := f"{PAIRS}-{split}"))}

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.parquet" if f"{name}.parquet" in self.manifest.files else None

    @property
    def drops(self) -> Path | None:
        """The file that says where the dropped rows went; older builds have none."""
        path = self.folder / DROPS
        return path if path.is_file() else None


def open_built(folder: Path, verify: bool = False) -> Built:
    """The build in `folder`; `verify` reads every file to compare its digest.

    DataError if the folder is no build, or has lost or changed a file since it was built.
    """
    told = folder / NAME
    try:
        built = Built(folder, TypeAdapter(Manifest).validate_json(told.read_bytes()))
    except OSError as problem:
        raise DataError(
            f"{told}: cannot be read: {problem.strerror}; give a folder made by `guard data build`"
        ) from None
    except ValidationError as mistakes:
        raise DataError(f"{told}: not a manifest of a build: check {_where(mistakes)}; build it again") from None
    for name, digest in built.manifest.files.items():
        _check_file(folder, name, digest if verify else None)
    for split in SPLITS:
        files = [path for path in (built.labelled.get(split), built.pairs.get(f"{PAIRS}-{split}")) if path]
        found, expected = sum(map(count_rows, files)), built.manifest.splits.get(split, Split(0)).rows
        if found != expected:
            raise DataError(f"{folder}: {split} has {found:,} rows, the manifest tells {expected:,}; build it again")
    return built


def _check_file(folder: Path, name: str, digest: str | None) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise DataError(f"{folder}: the manifest lists {name!r}, which is not there; build it again")
    if digest is None:
        return
    actual = file_digest(path)
    if actual != digest:
        raise DataError(f"{path}: sha256 is {actual[:12]}, the manifest tells {digest[:12]}; build it again")


def count_rows(path: Path) -> int:
    """The rows of a parquet file, by its footer."""
    return int(_open(path).metadata.num_rows)


def columns(path: Path) -> list[str]:
    """The names of the columns of a parquet file."""
    return list(_open(path).schema_arrow.names)


def batches(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Any]:
    """The file's rows as pyarrow record batches of the columns `names`, and of those of `optional` that it has.

    DataError if the file is damaged or lacks a column.
    """
    arrow = need("pyarrow", "data")
    file = _open(path)
    present = file.schema_arrow.names
    if missing := [name for name in names if name not in present]:
        raise DataError(f"{path}: has no column {', '.join(missing)}; it has: {', '.join(present)}")
    wanted = [*names, *(name for name in optional if name in present)]
    try:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
    except (arrow.ArrowException, OSError):  # arrow's words may hold a value
        raise DataError(f"{path}: damaged parquet; build it again") from None


def rows_at(path: Path, places: Collection[int]) -> dict[int, dict[str, Any]]:
    """The whole rows at `places` (counted from 0) of a parquet file; only the row groups that hold them are read."""
    arrow = need("pyarrow", "data")
    file = _open(path)
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        wanted = sorted(place for place in places if start <= place < end)
        if wanted:
            try:
                rows = file.read_row_group(group).take([place - start for place in wanted]).to_pylist()
            except (arrow.ArrowException, OSError):
                raise DataError(f"{path}: damaged parquet; build it again") from None
            found |= dict(zip(wanted, rows, strict=True))
        start = end
    return found


def _open(path: Path) -> Any:
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        return parquet.ParquetFile(path, pre_buffer=False)  # else the whole file is read ahead
    except (arrow.ArrowException, OSError):
        raise DataError(f"{path}: not a parquet file that can be read; build it again") from None


def hashes(texts: Iterable[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64-bit hashes of `texts`: eight bytes a row where names themselves would fill the memory."""
    digests = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def confounds(folder: Path) -> Confounds | None:
    """The reports on confounds that lie beside a build, None if there are none; DataError if they are damaged."""
    path = folder / CONFOUNDS
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Confounds).validate_json(path.read_bytes())
    except ValidationError as mistakes:
        raise DataError(f"{path}: not a report on confounds: check {_where(mistakes)}; build it again") from None


def _where(mistakes: ValidationError) -> str:
    """The keys that are wrong; what stands there is not told."""
    return ", ".join(".".join(map(str, mistake["loc"])) or "document" for mistake in mistakes.errors()[:5])
