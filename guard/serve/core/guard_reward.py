"""The components that the guard gives: that an answer is safe, and that it is no refusal."""

from __future__ import annotations

from collections.abc import Sequence

from guard.errors import GuardError
from guard.reward.score import RewardScore, clipped
from guard.serve.core.candidate import Candidate
from guard.serve.core.errors import Unjudged
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Answer, Service
from guard.verdict import Outcome, Verdict, log_odds

SAFE, NOT_REFUSAL = "safe", "not_refusal"
OF_GUARD = (SAFE, NOT_REFUSAL)

Part = tuple[RewardScore | None, str] | GuardError  # a score, if it applies, and the digest of its model


async def by_guard(
    service: Service, candidates: Sequence[Candidate], names: Sequence[str], options: Options, seconds: float
) -> dict[str, list[Part]]:
    """What the guard says of candidates, as its callers may know it, by the queue of moderation."""
    answers = await service.judge(Request(tuple(each.conversation for each in candidates), options, seconds))
    columns: dict[str, list[Part]] = {name: [] for name in names}
    for candidate, answer in zip(candidates, answers, strict=True):
        for name, column in columns.items():
            column.append(_of_verdict(name, candidate, answer))
    return columns


def _of_verdict(name: str, candidate: Candidate, answer: Answer) -> Part:
    if not isinstance(answer, Verdict):
        return answer
    if answer.outcome is Outcome.INCOMPLETE:
        return Unjudged(answer.unjudged)
    p = answer.p_enforced if name == SAFE else answer.p_refusal
    if p is None or (name == NOT_REFUSAL and candidate.refusable):
        return None, answer.model
    odds = -log_odds(p)
    coverage = answer.coverage.tokens_seen / max(1, answer.coverage.tokens_total)
    return RewardScore(clipped(odds), 1 - p, odds, coverage=coverage), answer.model


def sound(part: Part) -> tuple[RewardScore, str]:
    if isinstance(part, GuardError):
        raise part
    score, model = part
    assert score is not None
    return score, model
