"""Locks: an output has one writer at a time, and the error of a second one names the first."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from guard.errors import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HOLDER_BYTES = 200


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Holds the lock of an output, a file beside it, while the block runs.

    The operating system releases the lock when its process ends in any way, so none is ever stale. DataError names the
    process that holds it, or why the lock file cannot be used.
    """
    path = output.with_name(f"{output.name}.lock")
    descriptor = _acquire(path, output)
    try:
        holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
        yield
    finally:
        with suppress(OSError):  # an open file cannot be removed on Windows; its lock is released all the same
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, output: Path) -> int:
    """The open lock file. One that its last holder has just removed is not a lock: then a new one is created."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror}; choose another output") from None
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, _HOLDER_BYTES).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            raise DataError(f"{output}: in use by {holder}; wait until it ends, or choose another output") from None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise DataError(f"{path}: cannot be locked: {error.strerror}; choose an output elsewhere") from None
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """BlockingIOError if another process, or another part of this one, holds the lock."""
    if sys.platform == "win32":
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond what `_acquire` reads of a file that is locked
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
