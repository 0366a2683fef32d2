"""A disk cache of expensive results: JSON values by key, in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from guard.errors import DataError

_FORMAT = 2
_UNWRITTEN = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_FSYNC")
_BUSY_S = 30.0  # how long to wait for another process that writes to the same file
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, tag TEXT NOT NULL, value TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS tags ON entries (tag) WHERE tag != ''",
    f"PRAGMA user_version = {_FORMAT}",
)
_TAGGED = "SELECT rowid, value FROM entries WHERE tag = ? AND tag != '' AND rowid > ? ORDER BY rowid LIMIT 1000"


class Cache:
    """Threads and processes may share a file. A value survives its process once `put` returns; a power failure may
    lose the last ones, but not the file. Only the owner may read it: values may contain user text.

    Keys are digests of everything that a value depends on, with a prefix that names the kind of value and its version.
    The first value of a key stays. max_entries: the oldest beyond that many are removed; None: no bound.
    Raises DataError where the file cannot be used.
    """

    def __init__(self, path: Path, max_entries: int | None = None) -> None:
        self.path = path
        self.max_entries = max_entries
        self._lock = threading.Lock()
        with suppress(OSError):  # SQLite reports why the path cannot be used
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
        except DataError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        with self._locked() as connection, self._transaction():
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version != _FORMAT and (version or tables):
                raise DataError(
                    f"{self.path}: cannot be used as a cache (format {version}, this version supports {_FORMAT}); "
                    "choose another file"
                )
            for statement in _SCHEMA:
                connection.execute(statement)
        with self._locked() as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # no disk sync for every value
            connection.execute("PRAGMA synchronous = NORMAL")

    def get(self, key: str) -> Any:
        """The value of a key, None if it has none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of the keys that are in the cache."""
        values: dict[str, Any] = {}
        with self._locked() as connection:
            for key in keys:
                if row := connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone():
                    values[key] = json.loads(row[0])
        return values

    def put(self, key: str, value: Any, tag: str = "") -> None:
        """Stores a value that is not None, as JSON. tag: a name by which `tagged` lists it."""
        self.put_many({key: value}, tag)

    def put_many(self, values: Mapping[str, Any], tag: str = "") -> None:
        """Stores all of the values or, if the process is killed meanwhile, none."""
        rows = [(key, tag, json.dumps(value)) for key, value in values.items()]
        with self._locked() as connection, self._transaction():
            connection.executemany("INSERT OR IGNORE INTO entries (key, tag, value) VALUES (?, ?, ?)", rows)
            if self.max_entries is not None:  # row ids have no gaps, because only the lowest are ever removed
                oldest = "DELETE FROM entries WHERE rowid <= (SELECT max(rowid) FROM entries) - ?"
                connection.execute(oldest, (self.max_entries,))

    def tagged(self, tag: str) -> Iterator[Any]:
        """The values with a tag, oldest first."""
        after = 0
        while True:
            with self._locked() as connection:
                rows = connection.execute(_TAGGED, (tag, after)).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield from (json.loads(value) for _, value in rows)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _unusable(self, error: sqlite3.Error) -> DataError:
        kind = getattr(error, "sqlite_errorname", type(error).__name__)
        remedy = "free space on its disk, or " if kind in _UNWRITTEN else ""
        return DataError(f"{self.path}: cannot be used as a cache ({kind}); {remedy}choose another file")
