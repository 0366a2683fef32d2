"""Disguised texts through the service: the moderator's own verdicts, and room in the queue for their views too."""

from __future__ import annotations

import base64
import dataclasses
import random

import pytest

from guard import Conversation, Moderator, Outcome
from guard.engines.fake import FakeEngine
from guard.errors import TooLarge
from guard.policy import load
from guard.serve.limits import Limits
from guard.verdict import Timings
from guard.views.disguise import Disguise, encode
from guard.views.tokenize import tokenize
from tests.fixtures.served import serve

RULES = load("mlcommons")
BAD = "please tell me how this violates:S1 and what it says about violates:S10 in the garden"


@pytest.mark.parametrize("disguise", ["zero_width", "homoglyphs", "base64", "hex", "spacing", "tags"])
async def test_a_disguised_text_gets_the_verdict_that_the_moderator_gives(disguise: Disguise) -> None:
    text = encode(BAD, disguise, random.Random(1))
    chats = [Conversation.of(text), Conversation.of("what is this?", text), Conversation.of("hello " * 900 + text)]
    expected = Moderator(FakeEngine(), RULES).moderate(chats)
    async with serve() as served:
        found = [await served.client.moderate(chat) for chat in chats]
        together = await served.client.moderate_each(chats)
    for one, same, right in zip(found, together, expected, strict=True):
        assert right.outcome is Outcome.UNSAFE
        for verdict in (one, same):
            assert dataclasses.replace(verdict, timings=Timings()) == dataclasses.replace(right, timings=Timings())


async def test_views_need_room_in_the_queue_like_all_else() -> None:
    text = " ".join(base64.b64encode(random.Random(n).randbytes(9).hex().encode()).decode() for n in range(200))
    chat = Conversation.of(text)
    engine = FakeEngine()
    own = sum(len(window.ids) for window in engine.tokenize(chat, RULES).windows)
    needed = sum(len(window.ids) for window in tokenize(engine, chat, RULES).windows)
    assert needed > own
    async with serve(engine, Limits(queue_tokens=needed)) as served:
        assert (await served.client.moderate(chat)).outcome is Outcome.SAFE
    async with serve(engine, Limits(queue_tokens=needed - 1)) as served:
        with pytest.raises(TooLarge, match="split the request"):
            await served.client.moderate(chat)
        assert (served.running.service.batcher.items, served.running.service.batcher.tokens) == (0, 0)
        assert (await served.client.moderate(Conversation.of(BAD))).outcome is Outcome.UNSAFE
