"""Judging as generators that request scores and do no scoring themselves (sans-IO), so that anything can drive them.

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
    """A window's score or error, and its timings."""

    score: Score | Exception
    queue_ms: float = 0.0
    infer_ms: float = 0.0  # of its whole batch


Steps = Generator[Sequence[Window], Sequence[Scored], Result]


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The result of finished steps."""

    result: Result


def advance(steps: Steps[Result], scored: Sequence[Scored] | None = None) -> Sequence[Window] | Finished[Result]:
    """The windows that the steps request next, or their result. `scored` answers the previous request.

    Raises EngineError, in the steps, unless there is a score for each window. May run in any thread.
    """
    try:
        return next(steps) if scored is None else steps.send(scored)
    except StopIteration as stop:  # cannot cross threads and event loops
        return Finished(stop.value)


def run(steps: Steps[Result], engine: Engine) -> Result:
    """The result of steps whose windows this engine scores, synchronously."""
    request = advance(steps)
    while not isinstance(request, Finished):
        request = advance(steps, _score(engine, request))
    return request.result


def _score(engine: Engine, windows: Sequence[Window]) -> list[Scored]:
    started = time.perf_counter()
    scores: Sequence[Score | EngineError]
    try:
        scores = engine.score(windows)
        if len(scores) != len(windows):
            raise EngineError(
                f"the engine returned {len(scores)} scores for {len(windows)} windows; this is a bug of the engine"
            )
    except EngineError as problem:
        scores = [problem] * len(windows)
    infer_ms = (time.perf_counter() - started) * 1e3
    return [Scored(score, infer_ms=infer_ms) for score in scores]


async def run_async(
    steps: Steps[Result],
    request: Sequence[Window] | Finished[Result],
    ask: Callable[[Sequence[Window]], Awaitable[Sequence[Scored]]],
) -> Result:
    """The result of steps whose windows `ask` scores.

    request: the first result of `advance`. That tokenizes, so run it outside the event loop's thread.
    """
    while not isinstance(request, Finished):
        request = advance(steps, await ask(request))
    return request.result


def together(each: Sequence[Steps[Result]]) -> Steps[list[Result | Exception]]:
    """Many steps as one: their windows are requested together, equal ones once. Results or errors, in order."""
    results: dict[int, Result | Exception] = {}
    waiting: dict[int, Sequence[Window]] = {}

    def go_on(index: int, scored: Sequence[Scored] | None = None) -> None:
        try:
            request = advance(each[index], scored)
        except Exception as problem:  # noqa: BLE001 - fails this one and not its neighbours
            results[index] = problem
        else:
            if isinstance(request, Finished):
                results[index] = request.result
            else:
                waiting[index] = request

    for index in range(len(each)):
        go_on(index)
    while waiting:
        distinct = {window.key: window for windows in waiting.values() for window in windows}
        scored = dict(zip(distinct, (yield list(distinct.values())), strict=True))
        requests, waiting = waiting, {}
        for index, windows in requests.items():
            go_on(index, [scored[window.key] for window in windows])
    return [results[index] for index in range(len(each))]
