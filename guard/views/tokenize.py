"""Tokenizes a conversation as it is, and the views of its judged message without disguise.

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
from guard.views.escapes import unescaped
from guard.views.turns import request
from guard.views.view import plainest_view, views

CONTEXT = 2000  # characters before the judged message, the last ones, after which a view is tokenized
_WHOLE = ("folded", "joined", "corrected")  # views that leave nothing of the message out
_TURN = 16  # characters that a message counts beyond its own, since a model marks where it begins


class Tokenizes(Protocol):
    """An engine, or the renderer of either kind of guard."""

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation: ...


def tokenize(renderer: Tokenizes, conversation: Conversation, policy: Policy) -> TokenizedConversation:
    """The windows of the conversation as it stands, then those of its views (guard.views.view) that are new.

    Only the former count as tokens, seen or in total; but words that the vocabulary does not know count as seen where a
    view of the whole message has none. A window of a view lies where the view says, in the raw text. Where a format
    asks for escapes (guard.views.escapes), the text that was meant stands for the raw one, and all its windows lie in
    the whole of that. A context is read without its disguise, too, so that a plain "do it" is judged after what it is
    about, and what a user asks in several messages (guard.views.turns) is read as one. What views cost is bounded by
    the judged message alone: together they have at most twice its characters and a constant, and each is tokenized
    after no more than the end of the context; what several messages ask has a bound of its own.
    Raises InvalidInput where the conversation or one of its views cannot be tokenized.
    """
    decoded = Conversation(tuple(Message(each.role, unescaped(each.content)) for each in conversation.messages))
    judged, whole = decoded.judged, (0, len(conversation.judged.content))
    escaped = judged != conversation.judged
    raw = renderer.tokenize(decoded, policy)
    if escaped:
        raw = dataclasses.replace(raw, windows=tuple(_at(window, None, *whole) for window in raw.windows))
    context = end_of(decoded.context)
    plain_context = end_of(
        [Message(each.role, plainest_view(each.content)) for each in context]
    )  # a view may be longer
    # Which view it is, the conversation, where it lies, and whether it leaves nothing of the message out.
    versions: list[tuple[int | None, Conversation, int, int, bool]] = [
        (
            place,
            _with(plain_context, judged, view.text),
            *(whole if escaped else (view.start, view.end)),
            view.name in _WHOLE,
        )
        for place, view in enumerate(views(judged.content))
    ]
    if (asked := request(decoded.messages)) is not None:
        versions.append((None, _with((), judged, plainest_view(asked)), *whole, False))
    if plain_context != context and len(judged.content) <= CONTEXT:
        versions.insert(0, (None, _with(plain_context, judged, judged.content), *whole, False))
    seen_inputs = set(map(_input, raw.windows))
    added: list[Window] = []
    unknown = raw.unknown
    for view, version, start, end, complete in versions:
        tokenized = renderer.tokenize(version, policy)
        if complete and (start, end) == whole and not tokenized.unknown:
            unknown = 0
        for window in tokenized.windows:
            if _input(window) not in seen_inputs:
                seen_inputs.add(_input(window))
                added.append(_at(window, view, start, end))
    seen = raw.tokens_seen + raw.unknown - unknown
    return dataclasses.replace(raw, windows=(*raw.windows, *added), tokens_seen=seen, unknown=unknown)


def _with(context: Sequence[Message], judged: Message, text: str) -> Conversation:
    return Conversation((*context, Message(judged.role, text)))


def _at(window: Window, view: int | None, start: int, end: int) -> Window:
    return dataclasses.replace(window, view=view, start=start, end=end)


def _input(window: Window) -> tuple[Ids, Ids]:
    return window.ids, window.segments


def end_of(context: Sequence[Message], room: int = CONTEXT) -> tuple[Message, ...]:
    """The last messages as far as they fit into so many characters, of the first of them its end."""
    kept: list[Message] = []
    for message in reversed(context):
        room -= _TURN
        if room <= 0:
            break
        kept.append(Message(message.role, message.content[-room:]))
        room -= len(message.content)
    return tuple(reversed(kept))
