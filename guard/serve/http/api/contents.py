"""The detectors API of FMS and TrustyAI, `POST /api/v1/text/contents`: detections with their spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from guard.conversation import Conversation
from guard.errors import GuardError, InvalidInput, TooLarge
from guard.policy import Policy
from guard.serve.core.errors import Unjudged
from guard.serve.core.request import Request
from guard.serve.http import models
from guard.serve.http.translator import Body, Context, Judged, Translator, Work
from guard.verdict import Outcome, Verdict


class DetectorParams(Body):
    threshold: Annotated[float | None, Field(ge=0, le=1, description="Detections from this score on.")] = None


class ContentsBody(Body):
    contents: Annotated[list[str], Field(min_length=1)]
    detector_params: DetectorParams | None = None


def plan(sent: ContentsBody, context: Context) -> Work:
    options = models.options(context.headers.get("detector-id"), context, "detector-id")
    threshold = sent.detector_params.threshold if sent.detector_params else None
    conversations = tuple(Conversation.of(text) for text in sent.contents)

    def reply(judged: Sequence[Judged]) -> Any:
        (one,) = judged
        pairs = zip(sent.contents, one.verdicts, strict=True)
        return [_detections(text, verdict, one.policy, threshold) for text, verdict in pairs]

    return Work((Request(conversations, options),), reply)


def _detections(text: str, verdict: Verdict, policy: Policy, threshold: float | None) -> list[dict[str, Any]]:
    """`unsafe`, then the categories, all at the worst window. None would pass for safe, so INCOMPLETE is an error."""
    if threshold is None:
        found, codes = verdict.outcome is Outcome.UNSAFE, list(verdict.flagged)
    else:
        found, watched = verdict.p_enforced >= threshold, verdict.monitor.codes if verdict.monitor else ()
        codes = [code for code, p in verdict.categories.items() if p >= threshold and code not in watched]
    if not found:
        if not verdict.complete and verdict.outcome is not Outcome.SAFE:
            raise Unjudged(verdict.unjudged)
        return []
    start, end = verdict.coverage.worst_start, verdict.coverage.worst_end
    scores = [("unsafe", "unsafe", verdict.p_enforced)]
    scores += [(policy.category(code).name, code, verdict.categories[code]) for code in codes]
    return [
        {
            "start": start,
            "end": end,
            "text": text[start:end],
            "detection": name,
            "detection_type": kind,
            "score": score,
            "evidence": [],
            "metadata": {},
        }
        for name, kind, score in scores
    ]


def error(status: int, problem: GuardError) -> dict[str, Any]:
    """`{"code", "message"}`."""
    return {"code": status, "message": str(problem)}


_DETECTION = {
    "type": "object",
    "properties": {
        "start": {"type": "integer"},
        "end": {"type": "integer"},
        "text": {"type": "string"},
        "detection": {"type": "string"},
        "detection_type": {"type": "string"},
        "score": {"type": "number"},
        "evidence": {"type": "array"},
        "metadata": {"type": "object"},
    },
}
TRANSLATOR = Translator(
    path="/api/v1/text/contents",
    summary="FMS detectors (TrustyAI, NeMo Guardrails): spans and categories; the header detector-id names a policy",
    body=ContentsBody,
    plan=plan,
    error=error,
    response={"type": "array", "items": {"type": "array", "items": _DETECTION}},
    statuses={TooLarge: 413, InvalidInput: 422},
)
