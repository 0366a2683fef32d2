"""Tokenizes a conversation as it stands, and as its judged message reads without its disguise.

Whatever scores a conversation tokenizes it here: every verdict, the calibration that chooses the verdict's thresholds,
the dev evaluation that chooses the weights, and the teacher of a distillation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from guard.conversation import Conversation, Message
from guard.policy import Policy
from guard.prompts.window import Ids, TokenizedConversation, Window
from guard.views.view import views

CONTEXT = 2000  # characters before the judged message, the last ones, after which a view is tokenized
_TURN = 16  # characters that a message counts beyond its own, since a model marks where it begins


class Tokenizes(Protocol):
    """An engine, or the renderer of either kind of guard."""

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation: ...


def tokenize(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> TokenizedConversation:
    """The windows of the conversation as it stands, then those of its views (guard.views.view) that are new.

    Only the former count as tokens, seen or in total. A window of a view lies where the view says, in the raw text.
    What views cost is bounded by the judged message alone: together they have at most twice its characters and a
    constant, and each is tokenized after no more than the end of the context.
    Raises InvalidInput where the conversation or one of its views cannot be tokenized.
    """
    raw = renderer.tokenize(conversation, policy)
    found = views(conversation.judged.content)
    if not found:
        return raw
    context = _end(conversation.context)
    known = set(map(_input, raw.windows))
    added: list[Window] = []
    for view in found:
        plain = Conversation((*context, Message(conversation.judged.role, view.text)))
        for window in renderer.tokenize(plain, policy).windows:
            if _input(window) not in known:
                known.add(_input(window))
                added.append(dataclasses.replace(window, start=view.start, end=view.end))
    return dataclasses.replace(raw, windows=(*raw.windows, *added))


def _input(window: Window) -> tuple[Ids, Ids]:
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
