"""Checks of a job's input and output paths before it starts."""

from __future__ import annotations

import stat
from pathlib import Path

from guard.errors import DataError

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def check_input(path: Path) -> None:
    """DataError unless `path` is a regular file: a job reads its input more than once."""
    kind = _kind(path)
    if kind is None:
        raise DataError(f"{path}: no such file")
    if kind != "file":
        raise DataError(f"{path}: is a {kind}; it is read more than once, so copy it to a regular file first")


def check_output(path: Path) -> None:
    """DataError unless a regular file can appear at `path`."""
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; create it first")
    if (kind := _kind(path)) not in (None, "file"):
        raise DataError(f"{path}: is a {kind}; give the name of a regular file")


def _kind(path: Path) -> str | None:
    """The kind of file at a path, None if there is none."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "file")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
