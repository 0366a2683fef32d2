"""Answers that their callers have not yet taken, which lie in this process until they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from guard.errors import Overloaded


class Unread:
    """Counts the bytes by caller. For one event loop.

    most: beyond it a caller's next calls are refused. Without this bound a client that reads nothing would hold as many
    answers as a connection has calls, times its connections.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: Counter[str] = Counter()

    def check(self, caller: str) -> None:
        """Raises Overloaded where the caller must first take what it has asked for."""
        if (held := self._held[caller]) >= self.most:
            raise Overloaded(f"{held} bytes of answers wait to be read, of at most {self.most}; read them first")

    def hold(self, caller: str, size: int) -> Callable[[object], None]:
        """Counts an answer, until its call is done: it is taken, or nobody is left to take it."""
        self._held[caller] += size

        def taken(_: object) -> None:
            self._held[caller] -= size
            if not self._held[caller]:
                del self._held[caller]

        return taken
