"""Answers of chat endpoints, kept on disk under the digest of what was asked, so that nothing is paid for twice."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guard.errors import DataError

_FORMAT = 1
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    asked TEXT PRIMARY KEY, payer TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER, retries INTEGER NOT NULL,
    choices TEXT NOT NULL
) WITHOUT ROWID"""
_WAIT_S = 30.0  # for another process that writes to the same file


@dataclass(frozen=True, slots=True, repr=False)
class Choice:
    """One text that a model wrote. finish: why it ended, `stop` where it was complete, `length` where it was cut."""

    text: str
    finish: str


@dataclass(frozen=True, slots=True, repr=False)
class Completion:
    """An answer. Its tokens are None where the endpoint did not count them. cached: it was not asked for again."""

    choices: tuple[Choice, ...]
    tokens_in: int | None
    tokens_out: int | None
    retries: int = 0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Answered requests and what they took. uncounted: those whose tokens the endpoint did not count."""

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0

    def cost(self, price_in: float | None, price_out: float | None) -> float | None:
        """In the currency of the prices, which are per million tokens; None without them."""
        if price_in is None or price_out is None:
            return None
        return round((self.tokens_in * price_in + self.tokens_out * price_out) / 1e6, 6)


class Answers:
    """A file of answers, which threads and processes may share.

    An answer outlives its process once `put` returns; a power cut may cost the last ones, but not the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as problem:
            raise self._broken(problem) from None
        try:
            self._prepare()
        except DataError:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._locked() as file:
            file.execute("PRAGMA journal_mode = WAL")  # no waiting for the disk at every answer
            file.execute("PRAGMA synchronous = NORMAL")
            (found,) = file.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise DataError(f"{self.path}: holds answers in format {found}, not {_FORMAT}; give another file")
            file.execute(_TABLE)
            file.execute(f"PRAGMA user_version = {_FORMAT}")

    def get(self, asked: str) -> Completion | None:
        with self._locked() as file:
            query = "SELECT choices, tokens_in, tokens_out, retries FROM answers WHERE asked = ?"
            row = file.execute(query, (asked,)).fetchone()
        if row is None:
            return None
        choices, tokens_in, tokens_out, retries = row
        return Completion(
            tuple(Choice(*choice) for choice in json.loads(choices)), tokens_in, tokens_out, retries, True
        )

    def put(self, asked: str, payer: str, answer: Completion) -> None:
        """payer: whom `spent` shall count the answer for."""
        choices = json.dumps([[choice.text, choice.finish] for choice in answer.choices])
        values = (asked, payer, answer.tokens_in, answer.tokens_out, answer.retries, choices)
        with self._locked() as file:
            file.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)

    def spent(self, payer: str) -> Usage:
        """What the payer's answers took, over all of its runs."""
        query = """SELECT count(*), total(retries), total(tokens_in), total(tokens_out),
            total(tokens_in IS NULL OR tokens_out IS NULL) FROM answers WHERE payer = ?"""
        with self._locked() as file:
            return Usage(*(int(number) for number in file.execute(query, (payer,)).fetchone()))

    def close(self) -> None:
        with self._lock:
            self._file.close()

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._file
            except sqlite3.Error as problem:
                raise self._broken(problem) from None

    def _broken(self, problem: sqlite3.Error) -> DataError:
        kind = getattr(problem, "sqlite_errorname", type(problem).__name__)
        return DataError(f"{self.path}: cannot be used as a file of answers ({kind}); give the path of another file")
