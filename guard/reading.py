"""Reading a conversation: as it stands, and as its judged message reads without its disguise.

Whatever scores a conversation reads it here: every verdict, and the calibration that chooses the verdict's thresholds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from guard.conversation import Conversation, Message
from guard.engines.base import Engine, Reading, Window
from guard.policy import Policy
from guard.views.view import views

CONTEXT = 2000  # characters before the judged message, the last ones, that a view is read after
_TURN = 16  # characters that a message counts beyond its own, since a model marks where it begins


def read(engine: Engine, conversation: Conversation, policy: Policy) -> Reading:
    """The windows of the conversation as it stands, then those of its views (guard.views.view) that are new.

    Only the former count as tokens, seen or in total. A window of a view lies where the view says, in the raw text.
    What views cost is bounded by the judged message alone: together they have at most twice its characters and a
    constant, and each is read after no more than the end of the context.
    Raises InvalidInput where the conversation or one of its views cannot be read.
    """
    raw = engine.read(conversation, policy)
    found = views(conversation.judged.content)
    if not found:
        return raw
    context = _end(conversation.context)
    known = set(map(_input, raw.windows))
    added: list[Window] = []
    for view in found:
        plain = Conversation((*context, Message(conversation.judged.role, view.text)))
        for window in engine.read(plain, policy).windows:
            if _input(window) not in known:
                known.add(_input(window))
                added.append(dataclasses.replace(window, start=view.start, end=view.end))
    return dataclasses.replace(raw, windows=(*raw.windows, *added))


def _input(window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return window.ids, window.segments


def _end(context: Sequence[Message]) -> tuple[Message, ...]:
    """The last messages as far as they fit, of the first of them its end."""
    kept: list[Message] = []
    room = CONTEXT
    for message in reversed(context):
        room -= _TURN
        if room <= 0:
            break
        kept.append(Message(message.role, message.content[-room:]))
        room -= len(message.content)
    return tuple(reversed(kept))
