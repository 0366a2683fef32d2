"""A worker: a process that scores with an engine of its own, and is started again when it ends.

The two sides talk over one pipe. The process ends when its other end does, so that none is left behind whichever way
the parent goes. Requests are answered under their numbers, scoring and preparing each in a thread, so that preparing a
policy delays no batch.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pickle import UnpicklingError
from typing import Any, Literal

from guard import errors
from guard.engines.base import Engine
from guard.errors import EngineDown, EngineError, GuardError

log = logging.getLogger("guard.engines")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0  # before a start; doubled while processes end without an answer
_END_S = 2.0  # that a process has to end when it is told to
Method = Literal["score", "prepare"]


class Worker:
    """One process after the other, of which at most one lives.

    opener: opens the engine, in the process; it travels there, so it is a function or a `partial` of one. changed:
    called, in any thread, whenever `ready` may have changed. Thread-safe.
    """

    def __init__(self, opener: Callable[[], Engine], changed: Callable[[], None]) -> None:
        self._opener, self._changed = opener, changed
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._pipe: Connection | None = None  # of a process that is ready
        self._asked: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._opened: Future[None] = Future()
        self._closing = threading.Event()
        self._process: BaseProcess | None = None
        self._thread = threading.Thread(target=self._run, name="guard-worker", daemon=True)

    def start(self) -> None:
        """Begins to start the process; `opened` waits for it."""
        atexit.register(self.close)  # before multiprocessing waits for a process that its own SIGTERM does not end
        self._thread.start()

    def opened(self) -> None:
        """Returns when the first process is ready. Raises its error where it cannot open the engine."""
        self._opened.result()

    @property
    def ready(self) -> bool:
        return self._pipe is not None

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        process = self._process
        return None if process is None else process.pid

    def ask(self, method: Method, what: object) -> Future[Any]:
        """What the engine's method will return, its GuardError, or EngineDown where the process ends or has ended."""
        future: Future[Any] = Future()
        with self._lock:
            pipe, number = self._pipe, next(self._numbers)
            if pipe is not None:
                self._asked[number] = future
        if pipe is None:
            future.set_exception(EngineDown())
            return future
        with self._sending, suppress(OSError):  # the process is gone, and whoever reads from it says so
            pipe.send((number, method, what))
        return future

    def close(self) -> None:
        """Ends the process, whatever it does; what it was asked gets EngineDown. No other is started."""
        atexit.unregister(self.close)
        self._closing.set()
        if not self._thread.is_alive():
            return
        with self._lock:
            pipe = self._pipe
        if pipe is not None:
            with self._sending, suppress(OSError):
                pipe.send(None)
            self._thread.join(_END_S)
        while self._thread.is_alive():  # it opens an engine, or something holds it
            if (process := self._process) is not None:
                process.kill()
            self._thread.join(0.1)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            answered = self._live()
            if not self._opened.done() or self._opened.exception():
                break
            pause = _FIRST_PAUSE_S if answered else min(max(2 * pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        if not self._opened.done():
            self._opened.set_exception(EngineError("the engine's process ended before it was ready"))

    def _live(self) -> bool:
        """The life of a process; whether it has answered anything."""
        context = multiprocessing.get_context("spawn")
        pipe, other = context.Pipe()
        answered = False
        try:
            with other:
                process = context.Process(target=_serve, args=(other, self._opener), name="guard-engine", daemon=True)
                process.start()
                self._process = process
            if (problem := pipe.recv()) is not None:
                self._failed(problem)
                return False
            self._begin(pipe)
            while True:
                self._answer(*pipe.recv())
                answered = True
        except (EOFError, OSError, UnpicklingError):
            return answered
        finally:
            self._end(pipe)

    def _failed(self, problem: GuardError) -> None:
        if self._opened.done():
            reason = "; ".join(str(problem).splitlines())
            log.error("an engine cannot be opened again in place of one whose process ended: %s", reason)
        else:
            self._opened.set_exception(problem)

    def _begin(self, pipe: Connection) -> None:
        if self._opened.done():
            log.warning("an engine is ready again in place of one whose process ended")
        with self._lock:
            self._pipe = pipe
        if not self._opened.done():
            self._opened.set_result(None)
        self._changed()

    def _answer(self, number: int, answer: object) -> None:
        with self._lock:
            future = self._asked.pop(number)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _end(self, pipe: Connection) -> None:
        with self._lock:
            self._pipe = None
            asked, self._asked = self._asked, {}
        self._changed()
        for future in asked.values():
            future.set_exception(EngineDown())
        with self._sending:  # nobody writes to it, nor to what takes its number
            pipe.close()
        process, self._process = self._process, None
        if process is None:  # it could not be started
            return
        process.join(_END_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode and not self._closing.is_set():  # 0: it has said why
            log.error("the process of an engine has ended with code %s; another is started", process.exitcode)


def _serve(pipe: Connection, opener: Callable[[], Engine]) -> None:
    """The process: says None or the error of opening, then answers (number, method, argument) with (number, answer)."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # terminals and supervisors signal the whole group
        signal.signal(each, signal.SIG_IGN)
    try:
        engine = opener()
        engine.warm()
    except Exception as problem:  # noqa: BLE001 - the parent raises it
        pipe.send(_plain(problem))
        return
    pipe.send(None)
    sending = threading.Lock()

    def answer(number: int, method: Method, what: Any) -> None:
        found: object
        try:
            found = getattr(engine, method)(what)
        except Exception as problem:  # noqa: BLE001 - the parent raises it
            found = _plain(problem)
        try:
            with sending:
                pipe.send((number, found))
        except Exception:  # noqa: BLE001 - whoever waits for the answer hears of the end
            os._exit(1)

    threads = {method: ThreadPoolExecutor(1) for method in ("score", "prepare")}
    with suppress(EOFError, OSError):
        while (asked := pipe.recv()) is not None:
            threads[asked[1]].submit(answer, *asked)
    os._exit(0)  # whatever its threads still do


def _plain(problem: Exception) -> GuardError:
    """The error as it may travel: others than our own may hold a user's text, or be no values."""
    if type(problem).__module__ == errors.__name__ and isinstance(problem, GuardError):
        return problem
    return EngineError(f"the engine failed with {type(problem).__name__}")
