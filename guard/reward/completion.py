"""What an RL framework hands to a reward as conversations: a prompt and its completion, or a rollout of NeMo Gym."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guard.conversation import Conversation, Message, Role, parse_messages
from guard.errors import InvalidInput
from guard.message import text_only

# A plain text, or messages in OpenAI's format: a list, or a single one. None is an empty text.
Turns = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Sequence[Message] | None


@dataclass(frozen=True, slots=True, repr=False)
class Completion:
    """said: a conversation for each message of the assistant that is not empty, tool calls included, with everything
    before it as context. text: what the assistant says in all of them."""

    prompt: tuple[Message, ...]
    said: tuple[Conversation, ...]
    text: str


def read_completion(prompt: Turns, completion: Turns) -> Completion:
    """InvalidInput, which never shows a text, where one of them has no such shape, or the prompt has no message."""
    before, after = _messages(prompt, "user"), _messages(completion, "assistant")
    if not before:
        raise InvalidInput("a prompt needs at least one message")
    places = [at for at, message in enumerate(after) if message.role == "assistant" and message.content.strip()]
    said = tuple(Conversation((*before, *after[: at + 1])) for at in places)
    return Completion(before, said, "\n".join(after[at].content for at in places))


def _messages(turns: object, role: Role) -> tuple[Message, ...]:
    """The messages of a text, of one message or of a list, which is an array in a table; null is an empty text."""
    if is_null(turns):
        turns = ""
    if hasattr(turns, "tolist"):
        turns = turns.tolist()
    if isinstance(turns, str):
        return (Message(role, turns),)
    if isinstance(turns, tuple) and turns and all(isinstance(turn, Message) for turn in turns):
        found: tuple[Message, ...] = turns
        return found
    return parse_messages([turns] if isinstance(turns, Mapping) else turns)


def is_null(value: object) -> bool:
    """Whether it is null, which is NaN in a table."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_rollout(body: object) -> tuple[Any, Sequence[Any]]:
    """(prompt, items that the model wrote) of a rollout as NeMo Gym sends it, in the shapes of OpenAI's Responses API.

    InvalidInput for a body that lacks one of them, or has null in its place.
    """
    prompt, output = _under(body, "responses_create_params", "input"), _under(body, "response", "output")
    if prompt is None:
        raise InvalidInput("responses_create_params.input is missing; it is what the response answers")
    if not isinstance(output, list):
        raise InvalidInput("response.output must be a list of the items that the model wrote")
    return prompt, output


def said(output: Sequence[Any]) -> str:
    """What a model says to the user in the items that it wrote: the text of its messages, and of refusals. Null is an
    empty text. InvalidInput, which never shows a text, for items of another shape, and for what is no text."""
    for at, item in enumerate(output):
        if not isinstance(item, Mapping):
            raise InvalidInput(f"response.output[{at}] must be an object")
    spoken = [{"role": "assistant", "content": item.get("content")} for item in output if item.get("type") == "message"]
    return "\n".join(message.content for message in text_only(parse_messages(spoken, "response.output")))


def _under(body: object, *path: str) -> object:
    for key in path:
        body = body.get(key) if isinstance(body, Mapping) else None
    return body
