"""Judging as steps that ask for scores and do no scoring themselves, so that anything can drive them.

A step yields the windows that it needs, is sent a `Scored` for each, and in the end returns its result. `run` drives
steps with an engine, `run_async` with whatever awaits the scores (a batcher); `together` makes one of many.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from guard.engines.base import Engine
from guard.errors import EngineError
from guard.prompts.window import Score, Window

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Scored:
    """A window's score, or the error of its own, and where the time went."""

    score: Score | Exception
    queue_ms: float = 0.0
    infer_ms: float = 0.0  # of its whole batch


Steps = Generator[Sequence[Window], Sequence[Scored], Result]


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The result of steps that ask for nothing more."""

    result: Result


def advance(steps: Steps[Result], scored: Sequence[Scored] | None = None) -> Sequence[Window] | Finished[Result]:
    """The windows that the steps ask for next, or their result. `scored` answers what they asked for before.

    Raises EngineError, in the steps, unless there is a score for each window. May run in any thread.
    """
    try:
        return next(steps) if scored is None else steps.send(scored)
    except StopIteration as stop:  # cannot cross threads and event loops
        return Finished(stop.value)


def run(steps: Steps[Result], engine: Engine) -> Result:
    """The result of steps whose windows this engine scores, here and now."""
    asked = advance(steps)
    while not isinstance(asked, Finished):
        asked = advance(steps, _score(engine, asked))
    return asked.result


def _score(engine: Engine, windows: Sequence[Window]) -> list[Scored]:
    started = time.perf_counter()
    scores: Sequence[Score | EngineError]
    try:
        scores = engine.score(windows)
        if len(scores) != len(windows):
            raise EngineError(
                f"the engine gave {len(scores)} scores for {len(windows)} windows; this is a bug of the engine"
            )
    except EngineError as problem:
        scores = [problem] * len(windows)
    infer_ms = (time.perf_counter() - started) * 1e3
    return [Scored(score, infer_ms=infer_ms) for score in scores]


async def run_async(
    steps: Steps[Result],
    asked: Sequence[Window] | Finished[Result],
    ask: Callable[[Sequence[Window]], Awaitable[Sequence[Scored]]],
) -> Result:
    """The result of steps whose windows `ask` gets scored.

    asked: what `advance` gave first. That tokenizes, and so may better run in another thread than the event loop's.
    """
    while not isinstance(asked, Finished):
        asked = advance(steps, await ask(asked))
    return asked.result


def together(each: Sequence[Steps[Result]]) -> Steps[list[Result | Exception]]:
    """One of many: their windows are asked for at once, equal ones once. Results, or the error of each, in order."""
    results: dict[int, Result | Exception] = {}
    waiting: dict[int, Sequence[Window]] = {}

    def go_on(index: int, scored: Sequence[Scored] | None = None) -> None:
        try:
            asked = advance(each[index], scored)
        except Exception as problem:  # noqa: BLE001 - fails this one and not its neighbours
            results[index] = problem
        else:
            if isinstance(asked, Finished):
                results[index] = asked.result
            else:
                waiting[index] = asked

    for index in range(len(each)):
        go_on(index)
    while waiting:
        distinct = {window.key: window for windows in waiting.values() for window in windows}
        scored = dict(zip(distinct, (yield list(distinct.values())), strict=True))
        asked_for, waiting = waiting, {}
        for index, windows in asked_for.items():
            go_on(index, [scored[window.key] for window in windows])
    return [results[index] for index in range(len(each))]
