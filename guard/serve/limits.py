"""Limits of one server. All but the queue's are checked before anything is tokenized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from guard import schema
from guard.conversation import Conversation
from guard.errors import InvalidInput

Count = Annotated[int, Field(ge=1, lt=1 << 31)]  # an int32 of GetInfo
BYTES_PER_TOKEN = 4  # of a text not yet tokenized; the true number, views included, replaces it once it is known


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server; `GetInfo` reports them to clients, which cut their batches accordingly.

    request_seconds: time limit of a request, whatever its deadline. queue_windows, queue_tokens: of all accepted and
    unanswered requests. streams, stream_seconds: replies that are judged while they are written, at a time, and the
    longest that one may take.
    """

    __pydantic_config__ = schema.STRICT

    request_bytes: Count = 4 << 20
    conversation_characters: Count = 262_144
    conversation_messages: Count = 1_000
    batch_conversations: Count = 256
    policy_characters: Count = 65_536
    exclude_codes: Count = 256
    request_seconds: schema.Positive = 60.0
    queue_windows: Count = 4096
    queue_tokens: Count = 1 << 20
    streams: Count = 256
    stream_seconds: schema.Positive = 600.0


def oversize(conversation: Conversation, limits: Limits) -> InvalidInput | None:
    """The error of a conversation that exceeds the limits, else None."""
    if (messages := len(conversation.messages)) > limits.conversation_messages:
        return InvalidInput(f"the conversation has {messages} messages, must be <= {limits.conversation_messages}")
    if (characters := sum(len(each.content) for each in conversation.messages)) > limits.conversation_characters:
        return InvalidInput(
            f"the conversation has {characters} characters, must be <= {limits.conversation_characters}; split it"
        )
    return None
