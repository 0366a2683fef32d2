"""Data set folders in the layouts of Hugging Face: those that `save_to_disk` writes, or plain files of one format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard.data.sources.formats import Format, format_of
from guard.errors import ConfigError, DataError

ALL = "all"
_STATE, _SPLITS = "state.json", "dataset_dict.json"  # of a saved split, of a saved dict of splits
_INFO = ("dataset_info.json", "dataset_infos.json", _STATE, _SPLITS)
_PLAIN: tuple[Format, ...] = ("parquet", "arrow", "jsonl", "csv", "tsv")
_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORD = re.compile(r"[a-z]+")


def files(folder: Path, split: str | None = None) -> tuple[Format, list[Path]]:
    """The format and the files, in order, of one split or of all of them (`all`).

    ConfigError if the folder has several splits and none is chosen, or lacks the chosen one; DataError if it has no
    data, files of several formats, or lacks a file that its metadata lists.
    """
    if (folder / _SPLITS).is_file():
        names = _json(folder / _SPLITS).get("splits")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"{folder / _SPLITS}: lists no splits; save the data set again")
        return "arrow", [path for name in _chosen(folder, names, split) for path in _saved(folder / name)]
    if (folder / _STATE).is_file():
        own = _json(folder / _STATE).get("_split")
        if split not in (None, ALL, own):
            raise ConfigError(f"{folder}: holds one split ({own or 'without a name'}), not {split!r}")
        return "arrow", _saved(folder)
    return _plain(folder, split)


def is_saved(folder: Path) -> bool:
    """Whether the folder was written by `save_to_disk`."""
    return (folder / _SPLITS).is_file() or (folder / _STATE).is_file()


def _saved(folder: Path) -> list[Path]:
    """The files of one saved split, as listed in its state file."""
    listed = _json(folder / _STATE).get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed or ()]
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{folder / _STATE}: lists no data files; save the data set again")
    paths = [folder / str(name) for name in names]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise DataError(f"{folder}: {_STATE} lists {missing[0]}, which is not there; save the data set again")
    return paths


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; save the data set again") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not a JSON object; save the data set again")
    return value


def _chosen(folder: Path, names: Sequence[str], split: str | None) -> list[str]:
    listed = ", ".join(names)
    if split is None and len(names) > 1:
        raise ConfigError(f"{folder}: has the splits {listed}; choose one with `split`, or `split: {ALL}`")
    if split in (None, ALL):
        return list(names)
    if split not in names:
        raise ConfigError(f"{folder}: has no split {split!r}; it has: {listed}")
    return [str(split)]


def _plain(folder: Path, split: str | None) -> tuple[Format, list[Path]]:
    by_format: dict[Format, dict[str, list[Path]]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.name in _INFO or any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        try:
            format = format_of(path)
        except ConfigError:  # a README, a script
            continue
        if format in _PLAIN:
            by_format.setdefault(format, {}).setdefault(_split_of(parts), []).append(path)
    if len(by_format) != 1:
        formats = f"of several formats ({', '.join(by_format)})" if by_format else f"of none of: {', '.join(_PLAIN)}"
        raise DataError(f"{folder}: holds data files {formats}; give a folder of one format, or the file itself")
    ((format, splits),) = by_format.items()
    aliases = {name: split_ for split_, names in _NAMES.items() for name in names if split_ in splits}
    requested = aliases.get(split or "", split)
    return format, [path for name in _chosen(folder, list(splits), requested) for path in splits[name]]


def _split_of(parts: Sequence[str]) -> str:
    """The split named by a word of the path, folders before the file name; `data` if there is none."""
    for part in parts:
        words = set(_WORD.findall(part.lower()))
        for split, names in _NAMES.items():
            if words.intersection(names):
                return split
    return "data"
