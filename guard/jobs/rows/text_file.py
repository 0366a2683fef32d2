"""Text files, plain or gzipped, by lines of bounded length."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO, cast

from guard.errors import DataError
from guard.jobs.rows.limits import ROW_BYTES, check_expansion

GZIP = ".gz"
_CHUNK = 1 << 16


def open_bytes(path: Path, where: str) -> BinaryIO:
    """The bytes of a file, unpacked if its name ends with .gz.

    Reading raises DataError where a packed file is damaged, or expands beyond reason.
    """
    file = path.open("rb")
    return cast(BinaryIO, io.BufferedReader(_Unpacked(file, where))) if path.suffix.lower() == GZIP else file


class _Unpacked(io.RawIOBase):
    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._size = os.fstat(file.fileno()).st_size
        self._gzip = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._gzip.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._gzip.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DataError(f"{self._where}: not a complete gzip file; restore it") from None
        check_expansion(self._where, self._size, self._gzip.tell())
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def lines(file: IO[AnyStr]) -> Iterator[tuple[AnyStr, int]]:
    """Each line with its end, and its length; of a line longer than ROW_BYTES, the length alone."""
    while line := file.readline(ROW_BYTES + 1):
        length = len(line)
        if length > ROW_BYTES and not _ended(line):
            while more := file.readline(_CHUNK):
                length += len(more)
                if _ended(more):
                    break
        yield (line if length <= ROW_BYTES else line[:0]), length


def _ended(line: str | bytes) -> bool:
    return line.endswith(("\n", "\r")) if isinstance(line, str) else line.endswith(b"\n")


def too_long(length: int) -> str:
    """The message about a row that is too long."""
    return f"the row is too long: {length:,} bytes, must be <= {ROW_BYTES:,}"
