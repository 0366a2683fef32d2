"""The native `POST /v1/check`: conversations as rows, answers as `guard check --json` writes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from guard.calibration import Mode
from guard.conversation import Conversation, ConversationColumns, conversation_from_row
from guard.errors import GuardError, InvalidInput
from guard.serve.core.request import Options, PolicyText, Request
from guard.serve.core.service import Answer
from guard.serve.http.status import retry_after
from guard.serve.http.translator import Body, Context, Judged, Translator, Work
from guard.verdict import Outcome, Verdict, to_json

_COLUMNS = ConversationColumns("messages", ("prompt",), "response")
_ROW = {"messages", "prompt", "response", "id"}
_MESSAGES = {"type": "array", "items": {"type": "object"}, "description": "Messages as OpenAI's APIs have them."}
Messages = Annotated[Any, WithJsonSchema(_MESSAGES)]
Id = str | int | None
PolicyGiven = Annotated[
    str | dict[str, Any] | None, Field(description="A name that the service knows, or a policy document.")
]
PolicyYaml = Annotated[str | None, Field(description="A policy document in YAML, instead of `policy`.")]
Excluded = Annotated[list[str], Field(default_factory=list, description="Codes of categories to leave out.")]


class CheckBody(Body):
    messages: Messages = None
    prompt: str | None = None
    response: str | None = None
    id: Id = None
    conversations: Annotated[
        list[dict[str, Any]] | None,
        Field(min_length=1, description="Objects with messages, or prompt and response, and id; instead of the above."),
    ] = None
    policy: PolicyGiven = None
    policy_yaml: PolicyYaml = None
    exclude: Excluded
    mode: Mode | None = None
    timings: Annotated[bool, Field(description="Whether verdicts have the milliseconds of each stage.")] = False


def plan(sent: CheckBody, context: Context) -> Work:
    row = {name: value for name in sorted(_ROW) if (value := getattr(sent, name)) is not None}
    if sent.conversations is not None and row:
        raise InvalidInput(f"give either conversations or {', '.join(row)}")
    rows: list[Mapping[str, Any]] = [row] if sent.conversations is None else [*sent.conversations]
    conversations = tuple(
        _conversation(each, "" if sent.conversations is None else f"conversations[{index}]: ")
        for index, each in enumerate(rows)
    )
    request = Request(conversations, options(sent.policy, sent.policy_yaml, sent.exclude, sent.mode))

    def reply(judged: Sequence[Judged]) -> Any:
        (one,) = judged
        if sent.conversations is None:
            return _answer(row.get("id"), one.verdicts[0], sent.timings)
        pairs = zip(rows, one.answers, strict=True)
        return {"results": [_answer(each.get("id"), answer, sent.timings) for each, answer in pairs]}

    return Work((request,), reply)


def options(policy: PolicyGiven, policy_yaml: PolicyYaml, exclude: Sequence[str], mode: Mode | None) -> Options:
    """The options of guard's own formats. Raises InvalidInput if they have two policies."""
    if policy is not None and policy_yaml is not None:
        raise InvalidInput("give either policy or policy_yaml")
    if policy_yaml is not None:
        return Options(PolicyText(policy_yaml), tuple(exclude), mode)
    return Options(PolicyText(json.dumps(policy)) if isinstance(policy, dict) else policy, tuple(exclude), mode)


def _conversation(row: Mapping[str, Any], where: str) -> Conversation | InvalidInput:
    try:
        if unknown := row.keys() - _ROW:
            raise InvalidInput(f"unknown fields ({len(unknown)}); known: {', '.join(sorted(_ROW))}")
        if not isinstance(row.get("id"), str | int | None) or isinstance(row.get("id"), bool):
            raise InvalidInput(f"`id` must be a string or a whole number, not {type(row['id']).__name__}")
        return conversation_from_row(row, _COLUMNS)
    except InvalidInput as problem:
        return InvalidInput(f"{where}{problem}")


def _answer(given: Any, answer: Answer, timings: bool) -> dict[str, Any]:
    plain = isinstance(given, str | int) and not isinstance(given, bool)
    named = {"id": given} if plain else {}
    if not isinstance(answer, Verdict):
        return {**named, "outcome": "ERROR", **error(0, answer)}
    stages = {stage: round(ms, 3) for stage, ms in dataclasses.asdict(answer.timings).items()}
    return {**named, **to_json(answer), **({"timings": stages} if timings else {})}


def error(status: int, problem: GuardError) -> dict[str, Any]:
    """`{"error", "kind"}`, with `retry_after` where it may help to try again."""
    seconds = retry_after(problem)
    again = {} if seconds is None else {"retry_after": int(seconds)}
    return {"error": str(problem), "kind": type(problem).__name__, **again}


_VERDICT = {
    "type": "object",
    "properties": {
        "id": {"type": ["string", "integer"]},
        "outcome": {"enum": [*(outcome.value for outcome in Outcome), "ERROR"]},
        "p_unsafe": {"type": "number"},
        "categories": {"type": "object", "additionalProperties": {"type": "number"}},
        "flagged": {"type": "array", "items": {"type": "string"}},
        "p_refusal": {"type": ["number", "null"]},
        "target": {"enum": ["prompt", "response"]},
        "threshold": {"type": "number"},
        "coverage": {"type": "object"},
        "unjudged": {"type": "array", "items": {"type": "string"}},
        "monitor": {"type": "object"},
        "language": {"type": "object"},
        "policy": {"type": "string"},
        "model": {"type": "string"},
        "decided_by": {"type": "string"},
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
        "error": {"type": "string"},
    },
}
TRANSLATOR = Translator(
    path="/v1/check",
    summary="guard's own: the verdict on a conversation, or on each of several",
    body=CheckBody,
    plan=plan,
    error=error,
    response={
        "anyOf": [
            _VERDICT,
            {"type": "object", "properties": {"results": {"type": "array", "items": _VERDICT}}},
        ]
    },
    statuses={},
)
