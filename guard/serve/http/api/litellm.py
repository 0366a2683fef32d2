"""LiteLLM's generic guardrail, `POST /beta/litellm_basic_guardrail_api`.

The gateway sends each request and each reply; we answer whether it is blocked, and why. What cannot be judged, such as
images, is blocked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema

from guard.conversation import Conversation, Message
from guard.errors import GuardError, InvalidInput
from guard.message import parse_messages
from guard.policy import Policy
from guard.serve.core.request import Request
from guard.serve.http.translator import Context, Judged, OpenBody, Translator, Work
from guard.verdict import Outcome, Verdict

_JUDGED_ROLES = ("user", "tool")  # of earlier messages: what reached the model from outside
_OBJECTS = Annotated[Any, WithJsonSchema({"type": ["array", "null"], "items": {"type": "object"}})]


class GuardrailBody(OpenBody):
    """Only what is judged; LiteLLM also sends `request_data`, headers, tools and ids, and adds fields by version."""

    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    structured_messages: _OBJECTS = None
    tool_calls: _OBJECTS = None
    images: list[str] | None = None
    additional_provider_specific_params: dict[str, Any] | None = None


def plan(sent: GuardrailBody, context: Context) -> Work:
    if sent.additional_provider_specific_params:
        # End users can set them in the body of their own request, so that none may change how they are judged.
        raise InvalidInput("additional_provider_specific_params are not taken; configure the server instead")
    conversations = tuple(_conversations(sent))

    def reply(judged: Sequence[Judged]) -> Any:
        (one,) = judged
        reasons = [_reason(verdict, one.policy) for verdict in one.verdicts if verdict.outcome is not Outcome.SAFE]
        if reasons:
            return {"action": "BLOCKED", "blocked_reason": "; ".join(dict.fromkeys(reasons))}
        return {"action": "NONE"}

    return Work((Request(conversations),), reply)


def _conversations(sent: GuardrailBody) -> list[Conversation]:
    """What to judge: a reply in its context; of a request the last message in its context and what came before it."""
    history = parse_messages(sent.structured_messages or [], "structured_messages")
    called = {"role": "assistant", "tool_calls": sent.tool_calls}
    calls = parse_messages([called] if sent.tool_calls else [], "reply")
    images = [f"images[{index}]: image" for index in range(len(sent.images or ()))]
    texts = [text for text in sent.texts or () if text.strip()]
    if sent.input_type == "response":
        replies = [Message("assistant", text) for text in texts]
        made = [Conversation((*_before(history, each), each)) for each in (*replies, *calls)]
    else:
        made = [Conversation((each,)) for each in history[:-1] if each.role in _JUDGED_ROLES and each.content.strip()]
        if history and history[-1].content.strip():
            made.append(Conversation(history))
        written = {message.content for message in history}
        made += [Conversation.of(text) for text in texts if text not in written and not _part_of(text, written)]
        made += [Conversation(calls)] if calls else []
    if images and not any(one.unjudged for one in made):
        made.append(Conversation((Message("user", "[image]", tuple(images)),)))
    return made


def _before(history: Sequence[Message], reply: Message) -> Sequence[Message]:
    """The messages before a reply; the history may end with the reply itself."""
    ends = bool(history) and history[-1].role == "assistant" and reply.content in history[-1].content
    return history[:-1] if ends else history


def _part_of(text: str, written: set[str]) -> bool:
    """Whether a text is a part (of parts) of a message."""
    return any(f"\n{text}\n" in f"\n{content}\n" for content in written)


def _reason(verdict: Verdict, policy: Policy) -> str:
    what = "response" if verdict.target.value == "response" else "prompt"
    if verdict.outcome is Outcome.INCOMPLETE:
        return f"{what} could not be judged completely" + (
            f" ({', '.join(verdict.unjudged)[:200]})" if verdict.unjudged else ""
        )
    names = ", ".join(f"{code} {policy.category(code).name}" for code in verdict.flagged)
    return f"{what} is unsafe: {names}"


def error(status: int, problem: GuardError) -> Mapping[str, Any]:
    """As FastAPI shapes it, which LiteLLM logs."""
    return {"detail": str(problem)}


TRANSLATOR = Translator(
    path="/beta/litellm_basic_guardrail_api",
    summary="LiteLLM's generic guardrail",
    body=GuardrailBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {"action": {"enum": ["NONE", "BLOCKED"]}, "blocked_reason": {"type": "string"}},
        "required": ["action"],
    },
    statuses={},
)
