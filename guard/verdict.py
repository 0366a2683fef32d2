"""Verdicts, the answers of a guard."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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

    `worst_start`/`worst_end` are the characters of the judged message where the worst window, or what it undoes, lies;
    `worst_view` is the place of its text among the views of the message (guard.views.view), None of the message as it
    stands. A service does not say, so that it does not count where verdicts are compared.
    """

    tokens_seen: int
    tokens_total: int
    windows: int
    worst_start: int
    worst_end: int
    worst_view: int | None = field(default=None, compare=False)

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
class Language:
    """The likeliest language of a text (ISO 639-1), and whether the model was trained for it."""

    code: str
    probability: float
    supported: bool


@dataclass(frozen=True, slots=True)
class Monitor:
    """Categories that are watched and not enforced, and what the verdict would be if all were enforced.

    p_enforced: the probability that the others are violated.
    """

    codes: tuple[str, ...]
    outcome: Outcome
    flagged: tuple[str, ...]
    p_enforced: float

    @property
    def would_flag(self) -> tuple[str, ...]:
        """The watched categories among those that would be flagged."""
        return tuple(code for code in self.flagged if code in self.codes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one conversation. Probabilities are calibrated; `categories` follows the policy's order.

    monitor: None where every category is enforced. The probabilities are those of the whole policy all the same.
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
    monitor: Monitor | None = None
    language: Language | None = None  # of the judged message, where it was identified

    @property
    def p_enforced(self) -> float:
        """p_unsafe, as far as it is that of enforced categories: for whatever decides by a probability."""
        return self.p_unsafe if self.monitor is None else self.monitor.p_enforced

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


def decide_enforced(
    p_unsafe: float,
    threshold: float,
    categories: Mapping[str, float],
    category_thresholds: Mapping[str, float],
    complete: bool,
    watched: Collection[str],
    p_enforced: float,
) -> tuple[Outcome, tuple[str, ...], Monitor | None]:
    """`decide` by the categories that are not `watched`, whose probability together is `p_enforced`.

    What is watched counts for nothing, not even for what all categories come to together. Where none is enforced, what
    could not be judged could not have flagged anything either, so that the outcome is SAFE. The monitor, with the
    decision of all, is None where no category is watched.
    """
    outcome, flagged = decide(p_unsafe, threshold, categories, category_thresholds, complete)
    if not watched:
        return outcome, flagged, None
    p_enforced = min(p_unsafe, p_enforced)
    monitor = Monitor(tuple(code for code in categories if code in watched), outcome, flagged, p_enforced)
    enforced = {code: p for code, p in categories.items() if code not in watched}
    if not enforced:
        return Outcome.SAFE, (), monitor
    return *decide(p_enforced, threshold, enforced, category_thresholds, complete), monitor


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
        **({} if verdict.monitor is None else {"monitor": _monitor(verdict.monitor)}),
        **({} if verdict.language is None else {"language": _language(verdict.language)}),
        **({"decided_by": verdict.decided_by} if verdict.decided_by else {}),
    }


def _monitor(monitor: Monitor) -> dict[str, Any]:
    return {
        "codes": list(monitor.codes),
        "outcome": monitor.outcome.value,
        "flagged": list(monitor.flagged),
        "p_enforced": round(monitor.p_enforced, 6),
    }


def _language(language: Language) -> dict[str, Any]:
    return {
        "code": language.code,
        "probability": round(language.probability, 6),
        "supported": language.supported,
    }


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite for any p in [0, 1]."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p) - math.log1p(-p)


def any_of(odds: Collection[float]) -> float:
    """The log-odds of any of several independent causes, from those of each: logsumexp; -inf of none."""
    most = max(odds, default=-math.inf)
    return most + math.log(sum(math.exp(each - most) for each in odds)) if odds else most


def sigmoid(z: float) -> float:
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    e = math.exp(z)
    return e / (1 + e)
