"""Files of results that a command writes at its end: whether they can be is checked before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from guard.errors import InvalidInput


def check(*paths: Path | None) -> None:
    """InvalidInput unless a file can be written at each path that was given."""
    for path in paths:
        if path is None:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            raise InvalidInput(f"{path}: there is no folder {folder}; create it first")
        if path.is_dir():
            raise InvalidInput(f"{path}: is a folder; give the name of a file")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise InvalidInput(f"{path}: cannot be written: Permission denied; choose another file")


def write(path: Path, text: str) -> None:
    """InvalidInput where the file system refuses."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}; choose another file") from None
