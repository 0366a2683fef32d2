"""What is judged of a request, and what of it is forwarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.conversation import Conversation, Message
from guard.errors import InvalidInput
from guard.message import parse_messages

_FROM_OUTSIDE = ("user", "tool")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of a request. asked: whether it asks for a `moderation` field. blocking: whether that, by its
    modes, asks to block though the options may not."""

    messages: tuple[Message, ...] = field(repr=False)
    choices: int = 1
    stream: bool = False
    asked: bool = False
    blocking: bool = False

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """What to judge: the last message in its context, and by itself what reached the model from outside before."""
        earlier = (each for each in self.messages[:-1] if each.role in _FROM_OUTSIDE and each.content.strip())
        return (*(Conversation((each,)) for each in earlier), Conversation(self.messages))


def parse(body: Mapping[str, Any]) -> Prompt:
    """The prompt of a request's body. Raises InvalidInput, which names the place and never the text."""
    messages = parse_messages(body.get("messages"))
    if not messages:
        raise InvalidInput("messages is empty; send at least one message")
    choices = body.get("n")
    if choices is not None and (isinstance(choices, bool) or not isinstance(choices, int) or choices < 1):
        raise InvalidInput("n must be a whole number >= 1")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidInput("stream must be true or false")
    asked = body.get("moderation")
    if asked is not None and not isinstance(asked, Mapping):
        raise InvalidInput("moderation must be an object")
    prompt = Prompt(messages, choices or 1, bool(stream), asked is not None, _blocking(asked or {}))
    _ = prompt.conversations  # refuses an empty last message
    return prompt


def forwarded(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the model: without what is asked of the guard."""
    return {key: value for key, value in body.items() if key != "moderation"}


def _blocking(asked: Mapping[str, Any]) -> bool:
    policy = asked.get("policy")
    sides: Sequence[Any] = [policy.get(side) for side in ("input", "output")] if isinstance(policy, Mapping) else []
    return any(isinstance(side, Mapping) and side.get("mode") == "block" for side in sides)
