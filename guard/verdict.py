"""Verdicts, the answers of a guard."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guard.conversation import Target


class Outcome(enum.Enum):
    """INCOMPLETE means that part of the conversation could not be judged; it never counts as safe."""

    SAFE = "SAFE"
    UNSAFE = "UNSAFE"
    INCOMPLETE = "INCOMPLETE"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was judged: tokens of the raw text, and all scored windows, those of views included.

    `worst_start`/`worst_end` are the characters of the judged message where the worst window, or what it undoes, lies.
    """

    tokens_seen: int
    tokens_total: int
    windows: int
    worst_start: int
    worst_end: int

    @property
    def complete(self) -> bool:
        return 0 < self.tokens_total == self.tokens_seen


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds spent in each stage; an item of a batch carries the batch's inference time."""

    tokenize_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one conversation. Probabilities are calibrated; `categories` follows the policy's order.

    unjudged: what the conversation holds besides text (Conversation.unjudged); with any, it is never SAFE.
    """

    outcome: Outcome
    target: Target
    p_unsafe: float
    threshold: float
    categories: Mapping[str, float]
    flagged: tuple[str, ...]
    p_refusal: float | None
    coverage: Coverage
    policy: str  # digest of the policy that was applied
    model: str  # digest of the bundle that scored
    timings: Timings = Timings()
    decided_by: str = ""  # of a cascade: the names of the bundles whose scores count
    unjudged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything was judged, so that nothing but what was found is to be feared."""
        return self.coverage.complete and not self.unjudged


def natural(code: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts S2 before S10, the order in which verdicts name codes; different codes have different keys."""
    parts = re.findall(r"\d+|\D+", code)
    return *((0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts), (-1, 0, code)


def decide(
    p_unsafe: float,
    threshold: float,
    categories: Mapping[str, float],
    category_thresholds: Mapping[str, float],
    complete: bool,
) -> tuple[Outcome, tuple[str, ...]]:
    """UNSAFE iff p_unsafe reaches its threshold, then with the flagged codes in numeric order, at least the top one.

    An unsafe part decides even where another part could not be judged.
    """
    if p_unsafe < threshold:
        return (Outcome.SAFE if complete else Outcome.INCOMPLETE), ()
    over = [code for code, p in categories.items() if p >= category_thresholds[code]]
    return Outcome.UNSAFE, tuple(sorted(over or [max(categories, key=lambda code: categories[code])], key=natural))


def to_json(verdict: Verdict) -> dict[str, Any]:
    """The JSON form of a verdict, without user text."""
    return {
        "outcome": verdict.outcome.value,
        "p_unsafe": round(verdict.p_unsafe, 6),
        "categories": {code: round(p, 6) for code, p in verdict.categories.items()},
        "flagged": list(verdict.flagged),
        "p_refusal": None if verdict.p_refusal is None else round(verdict.p_refusal, 6),
        "target": verdict.target.value,
        "threshold": round(verdict.threshold, 6),
        "coverage": {
            "tokens_seen": verdict.coverage.tokens_seen,
            "tokens_total": verdict.coverage.tokens_total,
            "windows": verdict.coverage.windows,
            "worst": [verdict.coverage.worst_start, verdict.coverage.worst_end],
        },
        "unjudged": list(verdict.unjudged),
        "policy": verdict.policy,
        "model": verdict.model,
        **({"decided_by": verdict.decided_by} if verdict.decided_by else {}),
    }


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite for any p in [0, 1]."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p) - math.log1p(-p)


def sigmoid(z: float) -> float:
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    e = math.exp(z)
    return e / (1 + e)
