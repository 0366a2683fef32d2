"""Engines' caches of policies, bounded in bytes: each entry is computed once, however many threads ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PolicyCache(Generic[Key, Value]):
    """The values used last, as many as fit into `max_bytes` by `size`. Thread-safe.

    What a call asks for stays until another call computes something, even where it does not fit: it is in use.
    """

    def __init__(self, max_bytes: int, size: Callable[[Key, Value], int]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._size = size
        self._entries: OrderedDict[Key, Future[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Sequence[Key], compute: Callable[[Sequence[Key]], Sequence[Value]]) -> list[Value]:
        """The values of `keys`, in order. `compute` is called once, for those that nobody has asked for before.

        What it raises is raised here, and to every caller that waits for the same keys; the next call tries again.
        """
        wanted = dict.fromkeys(keys)
        mine: list[Key] = []
        with self._lock:
            for key in wanted:
                if key not in self._entries:
                    self._entries[key] = Future()
                    mine.append(key)
                self._entries.move_to_end(key)
            futures = {key: self._entries[key] for key in wanted}
        if mine:
            self._fill(mine, compute, futures)
        return [futures[key].result() for key in keys]

    def clear(self) -> None:
        """Removes all computed entries."""
        with self._lock:
            self._evict(0, ())

    def _fill(
        self,
        mine: Sequence[Key],
        compute: Callable[[Sequence[Key]], Sequence[Value]],
        futures: dict[Key, Future[Value]],
    ) -> None:
        try:
            values = dict(zip(mine, compute(mine), strict=True))
        except BaseException as problem:
            with self._lock:
                for key in mine:
                    del self._entries[key]
            for key in mine:
                futures[key].set_exception(problem)
            raise
        with self._lock:
            for key, value in values.items():
                futures[key].set_result(value)
                self.bytes += self._size(key, value)
            self._evict(self.max_bytes, futures)

    def _evict(self, max_bytes: int, used: Container[Key]) -> None:
        for key in [key for key, entry in self._entries.items() if entry.done() and key not in used]:
            if self.bytes <= max_bytes:
                break
            self.bytes -= self._size(key, self._entries.pop(key).result())
