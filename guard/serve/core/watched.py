"""A value made of files, which is made again when one of them changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from guard.errors import ConfigError

log = logging.getLogger("guard.serve")
T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[T]):
    """The value of `load`, which looks at its files again after `look_seconds`. Thread-safe.

    Raises ConfigError if it cannot be loaded at first; later the last good value stays. `what` names it in the log.
    """

    def __init__(
        self, what: str, paths: Sequence[Path], load: Callable[[], T], look_seconds: float | None = None
    ) -> None:
        self._what, self._paths, self._load = what, paths, load
        self._look_seconds = 1.0 if look_seconds is None else look_seconds
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = self._stat()
        self._value = load()

    @property
    def value(self) -> T:
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= self._look_seconds:
                self._looked = now
                self._look()
            return self._value

    def _look(self) -> None:
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        names = ", ".join(map(str, self._paths))
        try:
            self._value = self._load()
        except ConfigError:  # its text may repeat what the file holds
            log.warning("%s cannot be used; the %s that were read before stay valid", names, self._what)
        else:
            log.warning("%s: the %s were read again", names, self._what)

    def _stat(self) -> _Stamp:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
