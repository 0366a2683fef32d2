"""NeMo Guardrails' `POST /v1/checks`: whether a conversation passes its input and output rails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema

from guard.conversation import Conversation, Message
from guard.errors import GuardError, InvalidInput, TooLarge
from guard.message import parse_messages
from guard.serve.core.request import Request
from guard.serve.http import models
from guard.serve.http.translator import Context, Judged, OpenBody, Translator, Work
from guard.verdict import Outcome

Rail = Literal["input", "output"]
REFUSAL = "I'm sorry, I can't respond to that."  # NeMo's own default
_ROLES: dict[Rail, str] = {"input": "user", "output": "assistant"}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}


class ChecksOptions(OpenBody):
    config_id: str | None = None
    config_ids: list[str] | None = None
    rail_types: list[Rail] | None = None
    context: dict[str, Any] | None = None


class ChecksBody(OpenBody):
    """A chat completion's request, whose other fields speak of a model that is not called."""

    model: str | None = None
    messages: Annotated[Any, WithJsonSchema(_MESSAGES)]
    guardrails: ChecksOptions | None = None


def plan(sent: ChecksBody, context: Context) -> Work:
    given = sent.guardrails or ChecksOptions()
    configs = given.config_ids or [given.config_id or models.OWN]
    every = [models.options(config, context, "config_id") for config in configs]
    messages = parse_messages(sent.messages)
    if not messages:
        raise InvalidInput("messages must not be empty")
    rails = _rails(messages, given.rail_types)
    if not rails:
        raise InvalidInput("messages have no message of role user or assistant to check")
    conversations = tuple(rails.values())
    last = [*rails.values()][-1].judged

    def reply(judged: Sequence[Judged]) -> Any:
        for one in judged:
            for rail, verdict in zip(rails, one.verdicts, strict=True):
                if verdict.outcome is not Outcome.SAFE:
                    what = ",".join(verdict.flagged) or "incomplete"
                    return {"status": "blocked", "content": REFUSAL, "rail": f"guard {rail} ({what})"}
        return {"status": "passed", "content": last.content}

    return Work(tuple(Request(conversations, options) for options in every), reply)


def _rails(messages: Sequence[Message], asked: Sequence[Rail] | None) -> dict[Rail, Conversation]:
    """For each rail the conversation up to the last message of its role; by default for the roles that there are."""
    rails: dict[Rail, Conversation] = {}
    for rail, role in _ROLES.items():
        ends = [index for index, message in enumerate(messages) if message.role == role]
        if ends and (asked is None or rail in asked):
            rails[rail] = Conversation(tuple(messages[: ends[-1] + 1]))
        elif asked is not None and rail in asked:
            raise InvalidInput(f"rail_types has {rail}, but no message has role {role}")
    return rails


def error(status: int, problem: GuardError) -> dict[str, Any]:
    """`{"detail"}`, as FastAPI shapes it."""
    return {"detail": str(problem)}


TRANSLATOR = Translator(
    path="/v1/checks",
    summary="NeMo Guardrails' checks; config_ids name policies",
    body=ChecksBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {
            "status": {"enum": ["passed", "blocked"]},
            "content": {"type": "string"},
            "rail": {"type": "string"},
        },
        "required": ["status", "content"],
    },
    statuses={TooLarge: 413, InvalidInput: 422},
)
