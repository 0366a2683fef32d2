"""The uncalibrated result for a conversation: the score that calibration, thresholds and modes start from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from guard.calibration import TargetCalibration
from guard.conversation import Conversation, Target
from guard.engines.base import sound
from guard.engines.cascade import CascadeRenderer, SecondStage
from guard.errors import EngineError
from guard.moderator.steps import Scored, Steps
from guard.policy import Policy
from guard.prompts.window import Score, Window, combined, worst_window
from guard.verdict import Coverage, Timings
from guard.views.tokenize import Tokenizes, tokenize


@dataclass(frozen=True, slots=True)
class Evidence:
    """The score of a conversation under a policy: of all its windows, those of views included."""

    target: Target
    policy: Policy
    score: Score
    coverage: Coverage
    timings: Timings
    unjudged: tuple[str, ...] = ()
    decided_by: str = ""  # of a cascade: the names of the bundles whose scores count

    @property
    def complete(self) -> bool:
        """Whether everything was judged."""
        return self.coverage.complete and not self.unjudged


def evidence(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> Steps[Evidence]:
    """Tokenizes the conversation and its views, asks for the scores of their windows, and combines them; of a cascade,
    of the second stage too where the first is unsure or could not tokenize everything.

    Raises InvalidInput or PolicyError where it cannot be tokenized, before anything is scored; the error of a window
    that has one; EngineError unless every window has a sound score.
    """
    if not isinstance(renderer, CascadeRenderer):
        return (yield from _evidence(renderer, conversation, policy))
    first, second = renderer.stages
    one = yield from _evidence(renderer, conversation, policy)
    score = calibrated(one.score, first.calibration.of(one.target))
    if one.coverage.complete and not renderer.bands[one.target].holds(score.unsafe):
        return dataclasses.replace(one, score=score, decided_by=first.name)
    other = yield from _evidence(SecondStage(second.engine), conversation, policy)
    return dataclasses.replace(
        other,
        score=joint(score, calibrated(other.score, second.calibration.of(one.target))),
        coverage=dataclasses.replace(
            other.coverage,
            tokens_seen=one.coverage.tokens_seen,
            tokens_total=one.coverage.tokens_total,
            windows=one.coverage.windows + other.coverage.windows,
        ),
        timings=added(one.timings, other.timings),
        decided_by=f"{first.name}+{second.name}",
    )


def calibrated(score: Score, scale: TargetCalibration) -> Score:
    """The score in calibrated log-odds, the unit that the stages of a cascade have in common."""
    unsafe, *categories = (scale.slope * z + scale.bias for z in (score.unsafe, *score.categories))
    return Score(unsafe, tuple(categories), score.refusal)


def joint(one: Score, other: Score) -> Score:
    """The mean of two stages' calibrated log-odds; a refusal is the second's if it can tell."""
    categories = tuple((a + b) / 2 for a, b in zip(one.categories, other.categories, strict=True))
    return Score((one.unsafe + other.unsafe) / 2, categories, one.refusal if other.refusal is None else other.refusal)


def added(one: Timings, other: Timings) -> Timings:
    return Timings(one.tokenize_ms + other.tokenize_ms, one.queue_ms + other.queue_ms, one.infer_ms + other.infer_ms)


def _evidence(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> Steps[Evidence]:
    started = time.perf_counter()
    tokenized = tokenize(renderer, conversation, policy)
    tokenize_ms = (time.perf_counter() - started) * 1e3
    windows = tokenized.windows
    if not windows:
        raise EngineError("the engine returned no windows for a conversation; this is a bug of the engine")
    scored: Sequence[Scored] = yield windows
    if len(scored) != len(windows):
        raise EngineError(f"{len(scored)} scores for {len(windows)} windows; this is a bug of the caller")
    scores = [_checked(each, window) for each, window in zip(scored, windows, strict=True)]
    worst = windows[worst_window(scores)]
    last = max(scored, key=lambda each: each.queue_ms)
    return Evidence(
        conversation.target,
        policy,
        combined(scores),
        Coverage(tokenized.tokens_seen, tokenized.tokens_total, len(windows), worst.start, worst.end, worst.view),
        Timings(tokenize_ms, last.queue_ms, last.infer_ms),
        conversation.unjudged,
    )


def _checked(scored: Scored, window: Window) -> Score:
    score = scored.score
    checked = score if isinstance(score, Exception) else sound(score, window)
    if isinstance(checked, Exception):
        raise checked
    return checked
