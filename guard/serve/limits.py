"""Limits: what a request may hold. They are checked before anything is tokenised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts; `GetInfo` tells it to callers.

    request_seconds: the longest that a request is worked on, whatever its deadline.
    """

    request_bytes: int = 4 << 20
    conversation_characters: int = 262_144
    conversation_messages: int = 1_000
    batch_conversations: int = 256
    policy_characters: int = 65_536
    exclude_codes: int = 256
    request_seconds: float = 60.0
