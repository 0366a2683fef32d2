"""Data sets of the Hugging Face Hub as records: from a local copy under the data root, or loaded by `datasets`.

A local copy is the folder `hub/<source name>` under the root. A snapshot of the whole data set, with its card
(README.md), is loaded as from the Hub, by configuration and split; without a card all data files are read, which must
then be those of the split.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard.data.sources import formats
from guard.data.sources.description import Hub, Source, local_copy
from guard.data.sources.formats import Format, Record
from guard.errors import DataError, need

_FORMATS = {suffix: format for suffix, format in formats.SUFFIXES.items() if format not in ("lines", "xlsx")}
_PACKED = (".bz2", ".lz4", ".xz", ".zip", ".zst")
_BOOKKEEPING = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
_OTHER_SPLITS = {"test", "validation", "valid", "val", "dev", "eval"}


def records(source: Source, root: Path) -> Iterator[Record]:
    """The records of a source with `hub`. DataError if it can be loaded neither from `root`/hub/NAME nor the Hub."""
    assert source.hub is not None  # by contract
    folder = local_copy(source, root)
    if not folder.is_dir():
        yield from _loaded(source, source.hub, source.hub.dataset, source.hub.revision, folder)
    elif (folder / "README.md").is_file():
        yield from _loaded(source, source.hub, str(folder), None, folder)
    else:
        for path in _files(source, source.hub, folder):
            yield from formats.read(path, path.relative_to(root).as_posix(), _format(path))


def _loaded(source: Source, hub: Hub, dataset: str, revision: str | None, folder: Path) -> Iterator[Record]:
    datasets = need("datasets", "data")
    where = f"hub:{hub.dataset}:{hub.split}"
    try:
        config_arguments: dict[str, Any] = {}
        if hub.config is not None:
            # A data set whose card names no configurations has folders instead.
            known = datasets.get_dataset_config_names(dataset, revision=revision)
            config_arguments = {"name" if hub.config in known else "data_dir": hub.config}
        rows = datasets.load_dataset(dataset, split=hub.split, revision=revision, streaming=True, **config_arguments)
        for number, fields in enumerate(rows, 1):
            yield Record({name: _plain(value) for name, value in fields.items()}, where, number)
    except Exception as error:  # noqa: BLE001 - those of datasets, its HTTP client, file systems and parsers
        config = "" if hub.config is None else f", configuration {hub.config}"
        advice = (
            f"if it is gated, accept its terms at https://huggingface.co/datasets/{dataset} and log in with "
            f"`hf auth login`; without a connection, put a copy in {folder}"
            if dataset == hub.dataset
            else "its README.md must name the configuration and the split, and its files must be whole"
        )
        raise DataError(  # without its message, which may quote the data
            f"source {source.name}: {dataset} (split {hub.split}{config}) could not be loaded: "
            f"{type(error).__name__}; {advice}"
        ) from None


def _plain(value: Any) -> Any:
    """The value as JSON types; Arrow's dates become strings, its arrays lists."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _files(source: Source, hub: Hub, folder: Path) -> list[Path]:
    """The data files of a local copy, sorted; DataError if there are none, or one is packed or of another split."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _bookkeeping(path, folder)]
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if path.suffix in _PACKED:
            raise DataError(f"source {source.name}: {folder} holds {name}; unpack it, or pack it as .gz")
        if _suffix(path) in _FORMATS and _words(name) & (_OTHER_SPLITS - _words(hub.split)):
            raise DataError(
                f"source {source.name}: {folder} holds {name}, by its name of another split than {hub.split!r}; leave "
                "only files of that split there, or add the README.md of the data set, which tells them apart"
            )
    data_files = [path for path in paths if _suffix(path) in _FORMATS]
    if not data_files:
        raise DataError(
            f"source {source.name}: no data files in {folder}; allowed: {', '.join(_FORMATS)}, texts also as .gz"
        )
    return data_files


def _bookkeeping(path: Path, folder: Path) -> bool:
    """Whether the file is metadata of a download or of a data set saved to disk."""
    return path.name in _BOOKKEEPING or any(part.startswith(".") for part in path.relative_to(folder).parts)


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z0-9]+", name.lower()))


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _format(path: Path) -> Format:
    """The format by the suffix; of JSON by the first character, because some .jsonl files hold one list."""
    named = _FORMATS[_suffix(path)]
    if named not in ("json", "jsonl"):
        return named
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, EOFError):
        raise DataError(f"{path}: cannot be read; is the file damaged?") from None
    return "json" if start.startswith(b"[") else "jsonl"
