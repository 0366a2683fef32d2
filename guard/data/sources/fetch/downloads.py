"""Download descriptions: one YAML a folder under `raw/`, with the digest and the upstream of every file in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from guard import assets, schema
from guard.data.sources import description
from guard.data.sources.fetch.extract import Extract
from guard.errors import ConfigError, nearest

_FOLDER = re.compile(r"[a-z0-9][a-z0-9_]*")
_REPOSITORY = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LICENCE = re.compile(r"licen[cs]e", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file of a public repository at a commit."""

    __pydantic_config__ = schema.STRICT

    repository: str
    commit: str
    path: str

    def __post_init__(self) -> None:
        _check_repository(self.repository, self.commit)
        _check_path(self.path, "path")

    @property
    def name(self) -> str:
        """OWNER/REPOSITORY/COMMIT/PATH."""
        return f"{self.repository.removeprefix('https://github.com/')}/{self.commit}/{self.path}"


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file: its digest, and how it comes from upstream where it is not the file of the same path.

    `upstream` is the path in the repository, of a folder if the extract has `picks`. The files in `elsewhere` hold the
    same bytes and are tried in turn if the repository does not have them.
    """

    __pydantic_config__ = schema.STRICT

    sha256: str
    size: int
    upstream: str | None = None
    elsewhere: tuple[UpstreamFile, ...] = ()
    extract: Extract | None = None

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise schema.Misplaced("must be the 64 lower-case hex digits of a SHA-256", "sha256")
        if self.size < 0:
            raise schema.Misplaced("must not be negative", "size")
        if self.upstream is not None:
            _check_path(self.upstream, "upstream")
        for name in self.extract.picks if self.extract else ():
            _check_path(name, "extract", "picks", name)
            if "/" in name:
                raise schema.Misplaced("must be files in the folder `upstream` itself", "extract", "picks", name)
        if self.elsewhere and self.extract and self.extract.picks:
            raise schema.Misplaced("cannot stand in for the many files that `picks` names", "elsewhere")


@dataclass(frozen=True, slots=True)
class Download:
    """Where the files of one raw folder come from, by their path under the folder, and the licence of the data."""

    __pydantic_config__ = schema.STRICT

    folder: str
    repository: str
    commit: str
    licence: str
    files: dict[str, RawFile]
    caution: str = ""

    def __post_init__(self) -> None:
        _check_repository(self.repository, self.commit)
        for path in self.files:
            _check_path(path, "files", path)


@dataclass(frozen=True, slots=True)
class Selected:
    """A raw file to fetch: its path under the data root and, for each upstream file in it, the copies to try."""

    path: str
    folder: str
    licence: str
    caution: str
    file: RawFile
    upstream: tuple[tuple[UpstreamFile, ...], ...]


def folders(taxonomy: Path | None = None) -> list[str]:
    """Folders that have a download description in `taxonomy` (default: the shipped one), sorted."""
    return sorted(path.stem for path in _home(taxonomy).glob("*.yaml"))


def load(folder: str, taxonomy: Path | None = None) -> Download:
    """The description of a raw folder; ConfigError lists the mistakes of its file."""
    path = _home(taxonomy) / f"{folder}.yaml"
    download = schema.load(path, Download, ConfigError)
    if download.folder != folder or not _FOLDER.fullmatch(folder):
        raise ConfigError(
            f"{path}: `folder` is {download.folder!r} but the file is called {folder!r}; they must agree, "
            "in lower-case letters, digits and underscores"
        )
    return download


def select(names: Iterable[str], taxonomy: Path | None = None) -> list[Selected]:
    """The files of the raw folders and sources named, of all folders if none is; no file twice, sorted by path.

    A source's name stands for its input files and the licences beside them. ConfigError says why a name has nothing to
    download.
    """
    known = folders(taxonomy)
    if not known:
        raise ConfigError(f"{_home(taxonomy)}: holds no download descriptions (*.yaml)")
    selected: dict[str, Selected] = {}
    for name in list(names) or known:
        patterns = None if name in known else _patterns(name, known, taxonomy)
        for folder in [name] if patterns is None else sorted({pattern.split("/")[1] for pattern in patterns}):
            download = load(folder, taxonomy)
            for path, file in download.files.items():
                if patterns is None or _LICENCE.match(path) or _matches(f"raw/{folder}/{path}", patterns):
                    one = _selected(download, path, file)
                    selected[one.path] = one
    return [selected[path] for path in sorted(selected)]


def _patterns(name: str, known: list[str], taxonomy: Path | None) -> list[str]:
    """The file patterns of a source, all of which lie in described folders."""
    described = description.names(taxonomy)
    if name not in described:
        near = nearest(name, [*known, *described])
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"no source or raw folder {name!r}{hint} (folders: {', '.join(known)})")
    source = description.load(name, taxonomy)
    if source.within == "taxonomy":
        raise ConfigError(f"source {name} ships with guard; there is nothing to download")
    patterns = [file.path for file in source.files]
    if not patterns or not all(_in_folder(pattern, known) for pattern in patterns):
        raise ConfigError(
            f"source {name} has no download description: its files are not of the raw folders that are fetched from "
            f"their repositories ({', '.join(known)}); the source's own description says where it comes from"
        )
    return patterns


def _in_folder(pattern: str, known: list[str]) -> bool:
    parts = pattern.split("/")
    return len(parts) > 2 and parts[0] == "raw" and parts[1] in known


def _matches(path: str, patterns: list[str]) -> bool:
    """Whether a path fits a glob of `sources`: as many parts, each of which fits."""
    depth = path.count("/")
    return any(pattern.count("/") == depth and PurePosixPath(path).match(pattern) for pattern in patterns)


def _selected(download: Download, path: str, file: RawFile) -> Selected:
    upstream = file.upstream or path
    parts = [f"{upstream}/{name}" for name in file.extract.picks] if file.extract and file.extract.picks else [upstream]
    copies = tuple((UpstreamFile(download.repository, download.commit, part), *file.elsewhere) for part in parts)
    return Selected(
        path=f"raw/{download.folder}/{path}",
        folder=download.folder,
        licence=download.licence,
        caution=download.caution,
        file=file,
        upstream=copies,
    )


def _home(taxonomy: Path | None) -> Path:
    return (taxonomy or assets.asset("taxonomy")) / "downloads"


def _check_repository(repository: str, commit: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise schema.Misplaced("must be https://github.com/OWNER/REPOSITORY", "repository")
    if not _COMMIT.fullmatch(commit):
        raise schema.Misplaced("must be the 40 lower-case hex digits of a commit", "commit")


def _check_path(path: str, *key: str) -> None:
    """Nothing that is written or requested may lie outside its folder."""
    parts = path.split("/")
    if (
        not path.isprintable()
        or set(path) & set('\\:*?"<>|')
        or any(part.strip(" ") in ("", ".", "..") for part in parts)
    ):
        raise schema.Misplaced("must be a relative path of plain names separated by `/`, without `.` or `..`", *key)
