"""Text files, plain or packed by gzip or Zstandard, by lines of bounded length."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO, cast

from guard.errors import DataError, need
from guard.jobs.rows.limits import ROW_BYTES, check_expansion

GZIP, ZSTANDARD = ".gz", ".zst"
PACKED = (GZIP, ZSTANDARD)
_CHUNK = 1 << 16
# The byte-order marks of UTF-16 and UTF-32, and the first ASCII character of either without one.
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\0\0\xfe\xff", b"{\0", b"\0{", b"\0\0\0{")


def open_bytes(path: Path, where: str) -> BinaryIO:
    """The bytes of a file, unpacked if its name ends with .gz or .zst.

    Reading raises DataError where a packed file is damaged, or expands beyond reason.
    """
    file = path.open("rb")
    suffix = path.suffix.lower()
    return cast(BinaryIO, io.BufferedReader(_Unpacked(file, where, suffix))) if suffix in PACKED else file


def open_utf8(path: Path, where: str) -> BinaryIO:
    """As `open_bytes`; DataError where the file begins like UTF-16 or UTF-32."""
    file = open_bytes(path, where)
    try:
        if file.peek(4)[:4].startswith(_WIDE):  # type: ignore[attr-defined]
            raise DataError(f"{where}: is UTF-16 or UTF-32, must be UTF-8; convert it, for example with iconv")
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def packed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """A file to write what becomes `file`, packed as the name of `path` says; equal content gives equal bytes."""
    if path.suffix.lower() == GZIP:
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packer:
            yield cast(BinaryIO, packer)
    elif path.suffix.lower() == ZSTANDARD:
        arrow = need("pyarrow", "data")
        with arrow.CompressedOutputStream(arrow.PythonFile(_Unclosed(file), "w"), "zstd") as packer:
            yield packer
    else:
        yield file


class _Unclosed(io.RawIOBase):
    """A file that the packer around it does not close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


class _Unpacked(io.RawIOBase):
    def __init__(self, file: BinaryIO, where: str, suffix: str) -> None:
        self._file, self._where, self._suffix = file, where, suffix
        self._size = os.fstat(file.fileno()).st_size
        self._start()

    def _start(self) -> None:
        self._file.seek(0)
        self._at = 0
        if self._suffix == GZIP:
            self._stream: Any = gzip.GzipFile(fileobj=self._file)
        else:
            arrow = need("pyarrow", "data")
            self._stream = arrow.CompressedInputStream(arrow.PythonFile(self._file, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Backwards by unpacking from the start again; not from the end, which is unknown."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a packed file is unknown")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._start()
        while self._at < target and self.readinto(bytearray(min(target - self._at, _CHUNK))):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._stream.read(len(buffer))
        except (EOFError, zlib.error, OSError):
            kind = "gzip" if self._suffix == GZIP else "Zstandard"
            raise DataError(f"{self._where}: not a complete {kind} file; restore it") from None
        self._at += len(chunk)
        check_expansion(self._where, self._size, self._at)
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
