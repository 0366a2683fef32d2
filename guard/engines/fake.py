"""A deterministic engine without a model, for tests, demonstrations and a dry run of a deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from guard.conversation import Conversation
from guard.engines.base import Reading, Score, Window
from guard.policy import Policy
from guard.text.windows import windows

WORD_SIZE, WINDOW, OVERLAP = 4, 64, 16


class FakeEngine:
    """Reads the judged message by bytes; a text is unsafe in category CODE iff it holds `violates:CODE`.

    Everything else gets log-odds between -8 and -4 from a hash, so that different texts score differently and the
    same text always scores the same. Thread-safe.
    """

    kind = "fake"
    digest = hashlib.sha256(b"guard fake engine 1").hexdigest()

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        text = conversation.judged.content
        data = text.encode()
        found = tuple(
            Window(policy, tuple(data[start * WORD_SIZE : end * WORD_SIZE]), (), start * WORD_SIZE, end * WORD_SIZE)
            for start, end in windows(-(-len(data) // WORD_SIZE), WINDOW, OVERLAP)
        )
        total = -(-len(data) // WORD_SIZE)
        return Reading(found, total, total)

    def score(self, windows: Sequence[Window]) -> list[Score]:
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> Score:
        data = bytes(window.ids)
        noise = int.from_bytes(hashlib.sha256(data).digest()[:2]) / 65535
        words = data.split()
        categories = tuple(
            4.0 if f"violates:{category.code}".encode() in words else -8.0 + 4.0 * noise
            for category in window.policy.categories
        )
        return Score(max(categories), categories)
