"""A deterministic engine without a model, for tests, demonstrations and a dry run of a deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from guard.conversation import Conversation
from guard.engines.base import EngineInfo, Renderer
from guard.errors import EngineError
from guard.policy import Policy
from guard.prompts.layout import spans
from guard.prompts.window import Score, TokenizedConversation, Window

WORD_SIZE, WINDOW, OVERLAP = 4, 64, 16  # characters of a token, tokens
CUT = "\N{HORIZONTAL ELLIPSIS}"


class FakeEngine:
    """Reads the judged message by characters; it is unsafe in category CODE iff it holds the word `violates:CODE`.

    Everything else gets log-odds between -8 and -4 from a hash, so that different texts score differently and the
    same text always scores the same. Thread-safe.
    """

    info = EngineInfo(
        kind="fake",
        digest=hashlib.sha256(b"guard fake engine 1").hexdigest(),
        languages=(),
        parallel_calls=1,
        device="cpu",
        batch_tokens=2048,
    )

    ready = True

    @property
    def renderer(self) -> Renderer:
        return self

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        text = conversation.judged.content
        total = -(-len(text) // WORD_SIZE)
        windows = []
        for first, last in spans(total, WINDOW, OVERLAP):
            start, end = first * WORD_SIZE, min(last * WORD_SIZE, len(text))
            # A word that the window cuts is marked, so that its part does not pass for a word of its own.
            before, after = (CUT if _inside_word(text, place) else "" for place in (start, end))
            windows.append(Window(policy, tuple(f"{before}{text[start:end]}{after}".encode()), (), start, end))
        return TokenizedConversation(tuple(windows), total, total)

    def prepare(self, policy: Policy) -> None:
        """Nothing to cache."""

    def cost(self, window: Window) -> int:
        return len(window.ids)

    def warm(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        """Nothing to release."""

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> Score:
        data = bytes(window.ids)
        noise = int.from_bytes(hashlib.sha256(data).digest()[:2]) / 65535
        words = data.decode().split()
        categories = tuple(
            4.0 if f"violates:{category.code}" in words else -8.0 + 4.0 * noise for category in window.policy.categories
        )
        return Score(max(categories), categories)


def _inside_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and not text[place - 1].isspace() and not text[place].isspace()
