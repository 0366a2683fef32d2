"""The files of a job's inputs: files, folders, globs, data sets that were saved to disk, and standard input."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.digest import file_digest
from guard.errors import ConfigError, DataError
from guard.jobs.atomic import atomic
from guard.jobs.lock import locked
from guard.jobs.paths import check_input
from guard.jobs.rows import format_of

STDIN = "-"
DATASET_STATE = "state.json"  # of a folder that `datasets` saved; it lists the files of the rows


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows. name: where it lies below the folder that was given, or the file's own name."""

    path: Path
    name: Path


@contextmanager
def opened(inputs: Sequence[str | Path], out: Path) -> Iterator[list[Source]]:
    """The sources of the inputs while the block runs, each file once. Standard input is copied beside `out` meanwhile,
    since rows are read more than once.

    A folder stands for the files below it with a suffix of rows, in the order of their paths; others are left out.
    Raises DataError where there is no file, or the output would be an input of the next run.
    """
    if list(map(str, inputs)).count(STDIN) == 0:
        yield _sources(inputs, out)
        return
    if len(inputs) > 1:
        raise ConfigError("standard input (-) stands alone; give files, or pipe all rows")
    copy = out.with_name(f"{out.name}.stdin.jsonl")
    with locked(copy):
        try:
            with atomic(copy, private=True) as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield [Source(copy, Path("stdin.jsonl"))]
        finally:
            copy.unlink(missing_ok=True)


def fingerprints(sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """By path, what tells whether a file changed: its size in bytes and its checksum."""
    return {
        str(source.path): {"bytes": source.path.stat().st_size, "sha256": file_digest(source.path)}
        for source in sources
    }


def _sources(inputs: Sequence[str | Path], out: Path) -> list[Source]:
    found: dict[Path, Source] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            if _inside(out, path):
                raise DataError(
                    f"{out}: lies inside the input {path}, so that the next run would read it; write elsewhere"
                )
            below = sorted(_below(path), key=lambda source: source.name.parts)
            if not below:
                raise DataError(f"{path}: holds no file of rows; allowed are the suffixes of `guard filter --help`")
        elif glob.has_magic(str(given)) and not path.exists():
            below = [Source(each, Path(each.name)) for each in _matches(str(given))]
        else:
            below = [Source(path, Path(path.name))]
        for source in below:
            check_input(source.path)
            format_of(source.path)
            found.setdefault(source.path.resolve(), source)
    return list(found.values())


def _matches(pattern: str) -> list[Path]:
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(path)]
    if not paths:
        raise DataError(f"{pattern}: matches no file; quote a pattern so that the shell leaves it alone")
    return paths


def _below(folder: Path) -> Iterator[Source]:
    """Follows links, but enters no folder twice."""
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        here = Path(parent)
        names = _data_files(here) if DATASET_STATE in files else files
        for name in names:
            path = here / name
            if DATASET_STATE in files or _is_rows(path):
                yield Source(path, path.relative_to(folder))


def _is_rows(path: Path) -> bool:
    if path.name.startswith(".") or not path.suffix:
        return False
    try:
        format_of(path)
    except ConfigError:
        return False
    return True


def _data_files(folder: Path) -> list[str]:
    """The files of a saved data set's rows, in order; others, such as its caches, are none."""
    try:
        return [entry["filename"] for entry in json.loads((folder / DATASET_STATE).read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / DATASET_STATE}: not the state of a saved data set; save it again") from None


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
