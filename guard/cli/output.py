"""Standard output that may be closed early: the exit code must still report what the command decided."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO, TypeVar

from guard.errors import OutputError

T = TypeVar("T")


class Output:
    """A text stream that, once its reader is gone, sets `lost` and discards what is written.

    Commands may check `lost` to stop early. Raises OutputError if writing fails for any other reason.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if text == "":
            return 0  # typer tries this out, and takes no notice of an error
        return self._attempt(lambda: self._stream.write(text), len(text))

    def flush(self) -> None:
        self._attempt(self._stream.flush, None)

    def _attempt(self, write: Callable[[], T], discarded: T) -> T:
        if self.lost:
            return discarded
        try:
            return write()
        except BrokenPipeError:
            self._discard()
            return discarded
        except OSError as problem:
            self._discard()
            raise OutputError(f"standard output: cannot be written: {problem.strerror}") from None

    def _discard(self) -> None:
        """Redirects the descriptor as well, so that the interpreter's own flush at exit cannot fail."""
        self.lost = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def lost() -> bool:
    """Whether the reader of standard output is gone."""
    return isinstance(sys.stdout, Output) and sys.stdout.lost
