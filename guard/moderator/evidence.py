"""The uncalibrated result for a conversation: the score that calibration, thresholds and modes start from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from guard.conversation import Conversation, Target
from guard.engines.base import sound
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

    @property
    def complete(self) -> bool:
        """Whether everything was judged."""
        return self.coverage.complete and not self.unjudged


def evidence(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> Steps[Evidence]:
    """Tokenizes the conversation and its views, asks for the scores of their windows, and combines them.

    Raises InvalidInput or PolicyError where it cannot be tokenized, before anything is scored; the error of a window
    that has one; EngineError unless every window has a sound score.
    """
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
        Coverage(tokenized.tokens_seen, tokenized.tokens_total, len(windows), worst.start, worst.end),
        Timings(tokenize_ms, last.queue_ms, last.infer_ms),
        conversation.unjudged,
    )


def _checked(scored: Scored, window: Window) -> Score:
    score = scored.score
    checked = score if isinstance(score, Exception) else sound(score, window)
    if isinstance(checked, Exception):
        raise checked
    return checked
