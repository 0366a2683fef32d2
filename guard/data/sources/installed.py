"""Installed packages as a source: their code, manuals, settings and licences, read from the Python environment.

What is kept out: packages whose licence does not allow it, this package itself, whatever holds the text of the Python
standard library, and the texts of the GNU licences, Apache-2.0, MPL and CC0, which guards are tested with. They are
told by their words, wherever they lie.
"""

from __future__ import annotations

import functools
import importlib.metadata
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from importlib.metadata import PackageMetadata
from pathlib import Path
from typing import Annotated

from pydantic import Field

from guard import schema
from guard.data.sources.formats import Record
from guard.errors import DISTRIBUTION

_ALLOWED = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|HPND|Zlib|Unlicense|MPL|Mozilla)\b", re.I
)
_FORBIDDEN = re.compile(r"proprietary|\bA?L?GPL|non-?commercial|\bNC\b|GNU", re.I)
_LARGEST = 1_000_000  # bytes of a file that is read
_SHORTEST = 150  # characters
_TITLES = re.compile(
    r"gnu (lesser |library |affero |free documentation )*(general public )?licen[sc]e"
    r"|apache licen[sc]e version 2 0 january 2004|mozilla public licen[sc]e version \d|mozilla public licen[sc]e v \d"
    r"|cc0 1 0 universal|creative commons legal code"
)
_GRAM = 8  # words
_REPEATED = 4  # word n-grams of a withheld licence from which a text is a part of it
_LINE = 30  # characters of a line that tells where it is from
_COPIED = 0.1  # the share of such lines that are the standard library's from which a text is a copy
_LICENCE_FILE = re.compile(r"(licen[sc]e|copying)[^.]*(\.(txt|md|rst))?$", re.I)
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Installed:
    """Which files of the installed packages are read.

    kinds: patterns of the names of files, by kind; the first that fits counts. files: at most so many of a kind from
    one package, chosen by its name. without: patterns of paths that are left out.
    """

    __pydantic_config__ = schema.STRICT

    kinds: dict[str, tuple[str, ...]]
    files: dict[str, Annotated[int, Field(ge=1)]]
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kinds.keys() != self.files.keys():
            raise ValueError("`kinds` and `files` must name the same kinds")


@dataclass(frozen=True, slots=True, repr=False)
class Package:
    """An installed package: its name, version and licence, in one line, and its files by their paths, sorted."""

    name: str
    version: str
    licence: str
    files: dict[str, Path]


def digests() -> dict[str, str]:
    """The version and licence of every package that is read, by its name: rows depend on these."""
    return {package.name: f"{package.version}, {package.licence}" for package in packages() if package.licence}


@functools.cache
def packages(folder: str | None = None) -> tuple[Package, ...]:
    """The installed packages by name, without this one, of the environment or of one folder of it.

    `licence` is empty if texts must not be taken from it.
    """
    found: dict[str, Package] = {}
    there = importlib.metadata.distributions() if folder is None else importlib.metadata.distributions(path=[folder])
    for one in there:
        metadata = one.metadata
        name = re.sub(r"[-_.]+", "-", str(metadata["Name"])).lower()
        if name not in found and name != DISTRIBUTION:
            files = {path.as_posix(): Path(str(one.locate_file(path))) for path in one.files or ()}
            found[name] = Package(name, str(metadata["Version"]), _licence(metadata), dict(sorted(files.items())))
    return tuple(found[name] for name in sorted(found))


def _licence(metadata: PackageMetadata) -> str:
    classifiers = [
        name.rpartition("::")[2].strip()
        for name in metadata.get_all("Classifier") or ()
        if name.startswith("License ::")
    ]
    told = str(metadata["License"] or "").strip() if "License" in metadata else ""
    named = str(metadata["License-Expression"]) if "License-Expression" in metadata else ""
    text = named or " OR ".join(classifiers) or (told if "\n" not in told else "")
    return text if _ALLOWED.search(text) and not _FORBIDDEN.search(text) else ""


def records(settings: Installed, folder: str | None = None) -> Iterator[Record]:
    """A record for each file that is read: `text`, `kind`, `package`, `file` and `licence`, package by package."""
    kinds = {kind: _pattern(names) for kind, names in settings.kinds.items()}
    without = _pattern(settings.without)
    for package in packages(folder):
        by_kind: dict[str, list[str]] = {kind: [] for kind in kinds}
        for path in package.files if package.licence else ():
            kind = next((kind for kind, names in kinds.items() if names.match(path.rpartition("/")[2])), None)
            if kind is not None and not without.match(path):
                by_kind[kind].append(path)
        for kind, paths in by_kind.items():
            random.Random(f"{package.name} {kind}").shuffle(paths)
            for path in paths[: settings.files[kind]]:
                text = _text(package.files[path], kind)
                if len(text) >= _SHORTEST and not is_withheld(text):
                    fields = {"text": text, "kind": kind, "package": package.name, "licence": package.licence}
                    where = f"{package.name} {package.version}: {path}"
                    yield Record({**fields, "file": path.rpartition("/")[2]}, where, 1)


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, names)) or r"(?!)")


def _text(path: Path, kind: str) -> str:
    """The text of a file, of metadata the description alone; empty if it cannot be read or is no text."""
    try:
        if path.stat().st_size > _LARGEST:
            return ""
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return text.partition("\n\n")[2].strip() if kind == "metadata" else text.strip()


# -- what is kept out -------------------------------------------------------------------------------------------------


def is_withheld(text: str) -> bool:
    """Whether a file is, or holds, a licence that guards are tested with, or is one of the standard library's."""
    return _TITLES.search(_normal(text[:4000])) is not None or _is_copied(text)


def repeats_licence(text: str, folder: str | None = None) -> bool:
    """Whether a text repeats some words of such a licence, by the copies that packages bring along."""
    words = _normal(text)
    return _TITLES.search(words) is not None or len(_grams(words) & _licence_grams(folder)) >= _REPEATED


def _normal(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def _grams(words: str) -> set[str]:
    parts = words.split(" ")
    return {" ".join(parts[at : at + _GRAM]) for at in range(len(parts) - _GRAM + 1)}


@functools.cache
def _licence_grams(folder: str | None) -> frozenset[str]:
    """The word n-grams of every installed licence that begins with the title of one that is kept out."""
    found: set[str] = set()
    for package in packages(folder):
        for path in package.files.values():
            if _LICENCE_FILE.match(path.name):
                words = _normal(_text(path, "licence"))
                if _TITLES.search(words[:200]):
                    found |= _grams(words)
    return frozenset(found)


def _is_copied(text: str) -> bool:
    told = list(_telling(text.splitlines()))
    return sum(line in _library_lines() for line in told) > _COPIED * len(told)


def _telling(lines: Iterable[str]) -> Iterator[str]:
    return (stripped for line in lines if len(stripped := line.strip()) >= _LINE)


@functools.cache
def _library_lines() -> frozenset[str]:
    """The longer lines of the modules of the standard library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if not {"site-packages", "dist-packages"} & set(path.relative_to(folder).parts):
            found.update(_telling(path.read_text(encoding="utf-8", errors="replace").splitlines()))
    return frozenset(found)
