"""Verdicts: what a guard answers, and the grammar `safe` | `unsafe\\nS1,S10` that generative guards write."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from guard.conversation import Target
from guard.errors import VerdictError
from guard.policy import Policy, natural, ordered

SAFE_WORD, UNSAFE_WORD = "safe", "unsafe"


class Outcome(enum.Enum):
    """INCOMPLETE means that not everything could be read: it never counts as safe."""

    SAFE = "SAFE"
    UNSAFE = "UNSAFE"
    INCOMPLETE = "INCOMPLETE"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was read: tokens of the text as it stands, and all windows that were scored, its views' included.

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
    """The answer for one conversation. Probabilities are calibrated; `categories` follows the policy's order."""

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


def decide(
    p_unsafe: float,
    threshold: float,
    categories: Mapping[str, float],
    category_thresholds: Mapping[str, float],
    complete: bool,
) -> tuple[Outcome, tuple[str, ...]]:
    """UNSAFE iff p_unsafe reaches its threshold, then with the flagged codes in numeric order, at least the top one.

    What was read and found unsafe is unsafe even if something else could not be read.
    """
    if p_unsafe < threshold:
        return (Outcome.SAFE if complete else Outcome.INCOMPLETE), ()
    over = [code for code, p in categories.items() if p >= category_thresholds[code]]
    return Outcome.UNSAFE, tuple(sorted(over or [max(categories, key=lambda code: categories[code])], key=natural))


def to_json(verdict: Verdict) -> dict[str, Any]:
    """The JSON answer of a verdict, with no user text in it."""
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
        "policy": verdict.policy,
        "model": verdict.model,
    }


def write(codes: Collection[str], policy: Policy, safe: bool = False) -> str:
    """The verdict text: `safe`, `unsafe`, or `unsafe` with the codes in numeric order on the next line."""
    if safe:
        if codes:
            raise VerdictError(f"a safe verdict names no category (given: {', '.join(codes)})")
        return SAFE_WORD
    return f"{UNSAFE_WORD}\n{','.join(ordered(policy, codes))}" if codes else UNSAFE_WORD


def parse(text: str, policy: Policy) -> tuple[bool, tuple[str, ...]]:
    """(unsafe?, codes) of a generated verdict; leading and trailing white space is allowed, nothing else is forgiven.

    Raises VerdictError on an unknown or duplicate code, codes out of numeric order, or anything that is not a verdict:
    what cannot be read never counts as safe. The message shows no generated text, which may repeat a user's words.
    """
    lines = text.strip().split("\n")
    if lines == [SAFE_WORD]:
        return False, ()
    if lines[0] != UNSAFE_WORD or len(lines) > 2:
        raise VerdictError(f"not a verdict ({len(text)} characters); expected `safe`, or `unsafe` and a line of codes")
    if len(lines) == 1:
        return True, ()
    codes = lines[1].split(",")
    if unknown := sum(code not in policy.codes for code in codes):
        raise VerdictError(
            f"verdict has {unknown} unknown codes of {len(codes)}; the policy has: {', '.join(policy.codes)}"
        )
    if len(set(codes)) != len(codes):
        raise VerdictError(f"verdict names a category twice: {', '.join(codes)}")
    if tuple(codes) != ordered(policy, codes):
        raise VerdictError(f"verdict codes are not in numeric order: {', '.join(codes)}")
    return True, tuple(codes)


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite for any p in [0, 1]."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p) - math.log1p(-p)


def sigmoid(z: float) -> float:
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    e = math.exp(z)
    return e / (1 + e)
