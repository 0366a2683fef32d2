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
_WHOLE = ("folded", "joined", "corrected")  # views that leave nothing of the message out
_TURN = 16  # characters that a message counts beyond its own, since a model marks where it begins


class Tokenizes(Protocol):
    """An engine, or the renderer of either kind of guard."""

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation: ...


def tokenize(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> TokenizedConversation:
    """The windows of the conversation as it stands, then those of its views (guard.views.view) that are new.

    Only the former count as tokens, seen or in total; but words that the vocabulary does not know count as seen where a
    view of the whole message has none. A window of a view lies where the view says, in the raw text.
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
    unknown = raw.unknown
    for view in found:
        made = renderer.tokenize(Conversation((*context, Message(conversation.judged.role, view.text))), policy)
        if view.name in _WHOLE and (view.start, view.end) == (0, len(conversation.judged.content)) and not made.unknown:
            unknown = 0
        for window in made.windows:
            if _input(window) not in known:
                known.add(_input(window))
                added.append(dataclasses.replace(window, start=view.start, end=view.end))
    seen = raw.tokens_seen + raw.unknown - unknown
    return dataclasses.replace(raw, windows=(*raw.windows, *added), tokens_seen=seen, unknown=unknown)


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
