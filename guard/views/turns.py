"""Turns: a request that a user spreads over several messages, which nobody answers in between."""

from __future__ import annotations

import re
from collections.abc import Sequence

from guard.conversation import Message

_BRIEF = 60  # characters of a reply that answers nothing, and of a message that only goes on with the one before
_LONGEST = 2000  # characters of such a request
_FINISHED = re.compile(r"[.!?…。？！][\"')\]]*\s*$")
_REFUSAL = re.compile(r"\b(?:sorry|can't|can’t|cannot|won't|won’t|unable|not|no)\b", re.IGNORECASE)


def request(messages: Sequence[Message]) -> str | None:
    """What the user asks in all of the last messages together; None if the last one is a request of its own.

    Messages belong together if the replies between them are brief, and if each is unfinished or the last one brief.
    """
    *context, last = messages
    if last.role != "user" or not context:
        return None
    parts = [last.content]
    brief = len(last.content) <= _BRIEF
    for message in reversed(context):
        if message.role == "user":
            if not brief and _FINISHED.search(message.content):
                break
            parts.append(message.content)
        elif message.role != "assistant" or len(message.content) > _BRIEF or _REFUSAL.search(message.content):
            break
    text = " ".join(parts[::-1])
    return text if len(parts) > 1 and len(text) <= _LONGEST else None
