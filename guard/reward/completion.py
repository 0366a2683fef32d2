"""What an RL framework hands to a reward, a prompt and its completion in any of their shapes, as conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guard.conversation import Conversation, Message, Role, parse_messages
from guard.errors import InvalidInput

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
    """The messages of a text, of one message or of a list; null, which is NaN in a table, is an empty text."""
    if turns is None or (isinstance(turns, float) and math.isnan(turns)):
        turns = ""
    if isinstance(turns, str):
        return (Message(role, turns),)
    if isinstance(turns, tuple) and turns and all(isinstance(turn, Message) for turn in turns):
        found: tuple[Message, ...] = turns
        return found
    return parse_messages([turns] if isinstance(turns, Mapping) else turns)
