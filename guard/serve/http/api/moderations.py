"""OpenAI's `POST /v1/moderations`: its 13 categories by crosswalk, beside the policy's own codes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import WithJsonSchema

from guard import policy as policies
from guard.conversation import Conversation
from guard.errors import ConfigError, InvalidInput
from guard.policy import Policy
from guard.policy.crosswalk import Crosswalk
from guard.policy.route import between
from guard.serve.core.request import Request
from guard.serve.http import models
from guard.serve.http.api.openai_error import error
from guard.serve.http.translator import Body, Context, Judged, Translator, Work
from guard.verdict import Outcome, Verdict

_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_INPUT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": _PART},
    ],
    "description": "A text; several, each with a result; or the parts of one text. Images are refused.",
}


class ModerationsBody(Body):
    input: Annotated[Any, WithJsonSchema(_INPUT)]
    model: str | None = None


def plan(sent: ModerationsBody, context: Context) -> Work:
    options = models.options(sent.model, context)
    conversations = tuple(_conversation(text, where) for text, where in _texts(sent.input))

    def reply(judged: Sequence[Judged]) -> Any:
        (one,) = judged
        results = [result(verdict, one.policy) for verdict in one.verdicts]
        return {"id": f"modr-{uuid.uuid4().hex}", "model": models.name(context), "results": results}

    return Work((Request(conversations, options),), reply)


def _texts(given: Any) -> list[tuple[str, str]]:
    """The texts to judge, each with its place."""
    if isinstance(given, str):
        return [(given, "input")]
    if not isinstance(given, list):
        raise InvalidInput("input must be a string, a list of strings, or a list of parts")
    if not given:
        raise InvalidInput("input must not be empty")
    if all(isinstance(each, str) for each in given):
        return [(text, f"input[{index}]") for index, text in enumerate(given)]
    return [("\n".join(_part(part, f"input[{index}]") for index, part in enumerate(given)), "input")]


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        raise InvalidInput(f"{where} is an image; this model judges text only: send type `text`")
    if kind != "text" or not isinstance(part.get("text"), str):
        raise InvalidInput(f"{where} must be a string, as all others, or an object with type `text` and a `text`")
    if unknown := part.keys() - {"type", "text"}:
        raise InvalidInput(f"{where} has unknown fields ({len(unknown)}); known: type, text")
    return str(part["text"])


def _conversation(text: str, where: str) -> Conversation:
    if not text.strip():
        raise InvalidInput(f"{where} is empty; send at least one visible character")
    return Conversation.of(text)


def result(verdict: Verdict, policy: Policy | None) -> dict[str, Any]:
    """A result. What the policy cannot tell apart from others of the 13 has score 0 and applies to no input.

    policy: None where it is not known; then that is all of the 13, beside the verdict's own codes.
    `flagged` is true of an INCOMPLETE verdict, too, because clients let pass what is not flagged.
    """
    names = openai_policy().codes
    scores, flagged = dict.fromkeys(names, 0.0), dict.fromkeys(names, False)
    applied: dict[str, list[str]] = {name: [] for name in names}
    crosswalk = None if policy is None else _crosswalk(policy)
    for code, p in verdict.categories.items():
        entry = crosswalk.entry(code) if crosswalk else None
        for name in entry.codes if entry else ():
            scores[name] = max(scores[name], p)
            flagged[name] |= code in verdict.flagged
            applied[name] = ["text"]
    scores |= verdict.categories
    flagged |= {code: code in verdict.flagged for code in verdict.categories}
    return {
        "flagged": verdict.outcome is not Outcome.SAFE,
        "categories": flagged,
        "category_scores": scores,
        "category_applied_input_types": applied | {code: ["text"] for code in verdict.categories},
        "outcome": verdict.outcome.value,
        "p_unsafe": verdict.p_unsafe,
    }


@lru_cache(1)
def openai_policy() -> Policy:
    return policies.load("openai")


def prepare(policy: Policy) -> None:
    """Loads the crosswalk of a policy."""
    _crosswalk(policy)


_CROSSWALKS: dict[str, Crosswalk | None] = {}  # by the policy's digest; callers can only name policies that we know


def _crosswalk(policy: Policy) -> Crosswalk | None:
    """From the policy's codes to OpenAI's; None where there is no way."""
    if policy.digest not in _CROSSWALKS:
        _CROSSWALKS[policy.digest] = _route(policy) or _route(_shipped(policy.id))
    return _CROSSWALKS[policy.digest]


def _route(policy: Policy | None) -> Crosswalk | None:
    try:
        return None if policy is None else between(policy, openai_policy()).crosswalk
    except ConfigError:  # also of a version of a shipped policy that has other codes
        return None


def _shipped(policy_id: str) -> Policy | None:
    return next((policy for policy in map(policies.load, policies.shipped()) if policy.id == policy_id), None)


_RESULT = {
    "type": "object",
    "properties": {
        "flagged": {"type": "boolean"},
        "categories": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "category_scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "category_applied_input_types": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"const": "text"}},
        },
        "outcome": {"enum": [outcome.value for outcome in Outcome]},
        "p_unsafe": {"type": "number"},
    },
}
TRANSLATOR = Translator(
    path="/v1/moderations",
    summary="OpenAI's moderation API",
    body=ModerationsBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "results": {"type": "array", "items": _RESULT},
        },
    },
    statuses={},
    prepare=prepare,
)
