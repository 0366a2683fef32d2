"""The audit log: a line for each judged conversation, with digests, and no text unless the operator wants it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from guard import schema
from guard.conversation import Conversation
from guard.errors import ConfigError, EngineError, GuardError
from guard.serve.core.quota import CALLER
from guard.serve.core.request import Request
from guard.verdict import Verdict, to_json

log = logging.getLogger("guard.serve")
Fsync = Literal["always", "second", "never"]
BACKLOG_BYTES = 64 << 20  # of lines that are not yet written; beyond it, lines are lost, and counted
_SYNC_SECONDS = 1.0
_KEPT = ("outcome", "p_unsafe", "flagged", "target", "unjudged", "policy", "model", "monitor", "language", "decided_by")


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the log goes, None: nowhere; and how.

    text: whether lines hold the messages. fsync: `always` answers nobody before the line is on the disk, and nobody at
    all where it cannot be written; under `second` it is there a second after it was written. rotate_bytes, keep: a file
    is renamed to `.1` at that size, and so many are kept.
    """

    __pydantic_config__ = schema.STRICT

    path: Path | None = None
    text: bool = False
    fsync: Fsync = "second"
    rotate_bytes: Annotated[int, Field(ge=1024)] = 100 << 20
    keep: Annotated[int, Field(ge=1, le=1000)] = 10


class AuditLog:
    """Appends lines in a thread of its own. For one event loop; `close` it.

    failed: called where lines of a request are lost. backlog: bytes of lines that may wait to be written. Raises
    ConfigError if the file cannot be written, or another process does.
    """

    def __init__(self, audit: Audit, failed: Callable[[], None] = lambda: None, backlog: int = BACKLOG_BYTES) -> None:
        if audit.path is None:
            raise ConfigError("audit.path is missing")
        self._audit, self._path, self._failed, self._backlog = audit, audit.path, failed, backlog
        self._file = -1
        self._size = self._waiting = 0
        self._full = self._unsynced = False
        self._syncing: asyncio.TimerHandle | None = None
        self._looked = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guard-audit")
        try:
            self._open()
        except OSError as problem:
            raise ConfigError(f"audit.path {self._path}: {problem.strerror}") from None

    async def judged(self, request: Request, answers: Sequence[Verdict | GuardError]) -> None:
        """A line for each conversation. Raises EngineError under fsync `always` if they could not be written."""
        lines = self._lines(request, answers)
        durable = self._audit.fsync == "always"
        if self._waiting + len(lines) > self._backlog:
            self._lost()
            if durable:
                raise EngineError("the audit log is behind")
            return
        self._full = False
        self._waiting += len(lines)
        written = self._submit(self._append, lines, self._written)
        if durable and await asyncio.wrap_future(written) is not None:
            raise EngineError("the audit log cannot be written")

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        if self._syncing is not None:
            self._syncing.cancel()
        self._thread.submit(self._sync)
        self._thread.shutdown()
        os.close(self._file)

    def _lines(self, request: Request, answers: Sequence[Verdict | GuardError]) -> bytes:
        caller = CALLER.get()
        common = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "caller": None if caller is None else caller.name,
        }
        lines = []
        for one, answer in zip(request.conversations, answers, strict=True):
            line: dict[str, Any] = dict(common)
            if isinstance(one, Conversation):
                messages = [{"role": message.role, "content": message.content} for message in one.messages]
                line["sha256"] = digest(one)
                if self._audit.text:
                    line["messages"] = messages
            if isinstance(answer, Verdict):
                plain = to_json(answer)
                line |= {name: plain[name] for name in _KEPT if name in plain}
            else:
                line |= {"outcome": "ERROR", "error": type(answer).__name__}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        return "".join(lines).encode(errors="replace")

    def _lost(self) -> None:
        self._failed()
        if not self._full:
            log.error("the audit log is %d bytes behind; lines are lost until the disk keeps up", self._waiting)
        self._full = True

    def _submit(
        self, work: Callable[[bytes], OSError | None], lines: bytes, then: Callable[[int, OSError | None], None]
    ) -> Future[OSError | None]:
        """Has the thread do the work, and the event loop what comes `then`."""
        loop = asyncio.get_running_loop()
        done = self._thread.submit(work, lines)
        done.add_done_callback(lambda each: loop.call_soon_threadsafe(then, len(lines), each.result()))
        return done

    def _written(self, size: int, problem: OSError | None) -> None:
        self._waiting -= size
        if problem is not None:
            self._failed()
        # Also what is written last, before a long silence.
        if self._audit.fsync == "second" and self._unsynced and self._syncing is None:
            self._syncing = asyncio.get_running_loop().call_later(_SYNC_SECONDS, self._sync_later)

    def _sync_later(self) -> None:
        self._syncing = None
        self._submit(self._synced, b"", lambda _, problem: None if problem is None else self._failed())

    def _synced(self, _: bytes) -> OSError | None:
        try:
            self._sync()
        except OSError as problem:
            log.error("the audit log cannot be written: %s", problem.strerror or problem)
            return problem
        return None

    def _append(self, lines: bytes) -> OSError | None:
        try:
            self._replaced()
            if self._size and self._size + len(lines) > self._audit.rotate_bytes:
                self._rotate()
            if os.write(self._file, lines) != len(lines):
                raise OSError("short write")
            self._size += len(lines)
            self._unsynced = True
            if self._audit.fsync == "always":
                self._sync()
        except OSError as problem:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)  # no half of a line
            log.error("the audit log cannot be written: %s", problem.strerror or problem)
            return problem
        return None

    def _sync(self) -> None:
        if self._audit.fsync != "never":
            os.fsync(self._file)
        self._unsynced = False

    def _replaced(self) -> None:
        """Opens the file anew where something else, like logrotate, has moved it."""
        if time.monotonic() < self._looked + 1:
            return
        self._looked = time.monotonic()
        try:
            same = os.stat(self._path).st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            same = False
        if not same:
            self._open()

    def _rotate(self) -> None:
        for number in range(self._audit.keep - 1, 0, -1):
            if (older := self._numbered(number)).exists():
                os.replace(older, self._numbered(number + 1))
        os.replace(self._path, self._numbered(1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> None:
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fresh)
            raise OSError(0, "another process writes it") from None
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size = fresh, os.fstat(fresh).st_size


def digest(conversation: Conversation) -> str:
    """sha256 of the conversation's roles and contents as JSON, the same for the same conversation everywhere."""
    plain = [[message.role, message.content] for message in conversation.messages]
    return hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode()).hexdigest()
