"""How much of its scores a service tells: exact ones help an attacker who searches for a text that passes."""

from __future__ import annotations

import dataclasses
from typing import Literal

from guard.verdict import Outcome, Verdict

Scores = Literal["exact", "rounded", "labels"]


def disclosed(verdict: Verdict, scores: Scores) -> Verdict:
    """The verdict with its probabilities as they are, rounded to tenths, or as 0 and 1 by what it flags.

    Outcome and flagged codes are always those of the exact scores.
    """
    if scores == "exact":
        return verdict
    refusal, monitor = verdict.p_refusal, verdict.monitor
    if scores == "rounded":
        return dataclasses.replace(
            verdict,
            p_unsafe=round(verdict.p_unsafe, 1),
            categories={code: round(p, 1) for code, p in verdict.categories.items()},
            p_refusal=None if refusal is None else round(refusal, 1),
            monitor=monitor and dataclasses.replace(monitor, p_enforced=round(monitor.p_enforced, 1)),
        )
    flagged = verdict.flagged if monitor is None else monitor.flagged
    unsafe = float(verdict.outcome is Outcome.UNSAFE)
    return dataclasses.replace(
        verdict,
        p_unsafe=unsafe,
        threshold=0.5,
        categories={code: float(code in flagged) for code in verdict.categories},
        p_refusal=None if refusal is None else float(refusal >= 0.5),
        monitor=monitor and dataclasses.replace(monitor, p_enforced=unsafe),
    )
