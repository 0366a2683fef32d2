"""Files that appear whole and on disk, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".tmp"  # ends the name of a file that is not whole yet


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block ends; an exception leaves `path` as it was."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the renaming too must survive a power cut
    finally:
        os.close(folder)
