"""What every engine is: windows of a conversation in, log-odds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from guard.conversation import Conversation
from guard.policy import Policy


@dataclass(frozen=True, slots=True, repr=False)
class Window:
    """One model input: token ids under a policy. Equal windows have equal scores.

    ids, segments: token ids and segment ids, same length (causal engines leave segments empty; the policy's own
    tokens are not part of a window). start, end: characters of the judged message that it covers.
    """

    policy: Policy
    ids: tuple[int, ...]
    segments: tuple[int, ...]
    start: int
    end: int

    def __repr__(self) -> str:  # token ids are user text in another form
        return f"Window(<{len(self.ids)} tokens>)"


@dataclass(frozen=True, slots=True)
class Reading:
    """A conversation as windows. Every token of it lies in at least one window, or tokens_seen says otherwise.

    After them may come windows of other ways to read the judged message, whose tokens do not count (guard.reading).
    """

    windows: tuple[Window, ...]
    tokens_seen: int
    tokens_total: int


@dataclass(frozen=True, slots=True)
class Score:
    """Uncalibrated log-odds of one window.

    unsafe: log p(unsafe) - log p(safe). categories: log-odds of each category, in the policy's order.
    refusal: log-odds that the judged response refuses, if the engine can tell.
    """

    unsafe: float
    categories: tuple[float, ...]
    refusal: float | None = None


class Engine(Protocol):
    """Loads a bundle once and scores batches.

    Thread-safe: `read` and `score` may be called from several threads. Order is kept: one Score for each Window.
    Batch-invariant: a window's score does not depend on its batch-mates (|Δp| ≤ 1e-3). Nothing is truncated.
    Raises EngineError where a number cannot be given (for example the label mass says that the template is wrong).
    """

    @property
    def digest(self) -> str:
        """Digest of the bundle's contents; travels in every verdict."""

    @property
    def kind(self) -> str:
        """The backbone's kind: `mini`, `causal` or `fake`."""

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        """Token ids of the conversation under the policy. Raises InvalidInput where it cannot be read."""

    def score(self, windows: Sequence[Window]) -> list[Score]:
        """The scores of windows, which may be of several policies."""


def padded_batches(lengths: Sequence[int], max_tokens: int, max_items: int = 64) -> list[list[int]]:
    """Indices cut into batches of near lengths, each of at most `max_tokens` counted with padding (or one item)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        batch = batches[-1] if batches else None
        if batch is not None and len(batch) < max_items and lengths[index] * (len(batch) + 1) <= max_tokens:
            batch.append(index)
        else:
            batches.append([index])
    return batches
