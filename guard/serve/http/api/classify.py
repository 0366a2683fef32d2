"""vLLM's `POST /classify`: a text classifier with the labels `safe` and `unsafe`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import WithJsonSchema

from guard.conversation import Conversation
from guard.errors import GuardError, InvalidInput
from guard.serve.core.errors import Unjudged
from guard.serve.core.request import Request
from guard.serve.http import models
from guard.serve.http.translator import Body, Context, Judged, Translator, Work
from guard.verdict import Outcome, Verdict

_INPUT = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}


class ClassifyBody(Body):
    model: str | None = None
    input: Annotated[Any, WithJsonSchema(_INPUT)] = None
    messages: Annotated[Any, WithJsonSchema(_MESSAGES)] = None
    # Of vLLM's own; they change nothing here: nothing is truncated, and the scores are probabilities.
    truncate_prompt_tokens: int | None = None
    use_activation: bool | None = None
    activation: bool | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    request_id: str | None = None
    user: str | None = None


def plan(sent: ClassifyBody, context: Context) -> Work:
    options = models.options(sent.model, context)
    conversations = tuple(_conversations(sent))

    def reply(judged: Sequence[Judged]) -> Any:
        (one,) = judged
        verdicts = one.verdicts
        given = sum(verdict.coverage.tokens_total for verdict in verdicts)
        return {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": models.name(context),
            "data": [_class(index, verdict) for index, verdict in enumerate(verdicts)],
            "usage": {"prompt_tokens": given, "total_tokens": given, "completion_tokens": 0},
        }

    return Work((Request(conversations, options),), reply)


def _conversations(sent: ClassifyBody) -> list[Conversation]:
    if (sent.input is None) == (sent.messages is None):
        raise InvalidInput("give either input or messages")
    if sent.messages is not None:
        return [Conversation.from_messages(sent.messages)]
    texts = [sent.input] if isinstance(sent.input, str) else sent.input
    if not isinstance(texts, list) or not texts:
        raise InvalidInput("input must be a string or a list of strings, and not empty")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"input[{index}] must be a string, not {type(text).__name__}")
    return [Conversation.of(text) for text in texts]


def _class(index: int, verdict: Verdict) -> dict[str, Any]:
    """The label is that of the verdict, whose threshold need not be 0.5. A third label would pass for safe."""
    if verdict.outcome is Outcome.INCOMPLETE:
        raise Unjudged(verdict.unjudged)
    label = "unsafe" if verdict.outcome is Outcome.UNSAFE else "safe"
    return {"index": index, "label": label, "probs": [1 - verdict.p_enforced, verdict.p_enforced], "num_classes": 2}


def error(status: int, problem: GuardError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}` with the status as the code, as vLLM shapes it."""
    kinds = {404: "NotFoundError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return {"error": {"message": str(problem), "type": kind, "param": None, "code": status}}


TRANSLATOR = Translator(
    path="/classify",
    summary="vLLM's classification: safe or unsafe, with both probabilities",
    body=ClassifyBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "list"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer"},
                        "label": {"enum": ["safe", "unsafe"]},
                        "probs": {"type": "array", "items": {"type": "number"}},
                        "num_classes": {"const": 2},
                    },
                },
            },
            "usage": {"type": "object"},
        },
    },
    statuses={},
)
