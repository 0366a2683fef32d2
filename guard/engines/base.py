"""The engine protocol: windows of a conversation in, log-odds out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from guard.conversation import Conversation
from guard.errors import EngineError
from guard.policy import Policy
from guard.prompts.window import Score, TokenizedConversation, Window


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine's identity and its preferred use."""

    kind: str  # of backbone: `mini`, `causal`, `fake`, …
    digest: str  # of the bundle's contents; travels in every verdict
    languages: tuple[str, ...]  # that it was trained for, as BCP 47 tags; empty: not stated
    parallel_calls: int  # concurrent calls of `score` that are faster than sequential ones
    device: str  # like `cpu` or `cuda:0`
    batch_tokens: int  # padded tokens, in units of `cost`, beyond which a larger batch is not faster


class Renderer(Protocol):
    """The half of an engine that needs no weights: it makes windows. Thread-safe. Nothing is truncated."""

    @property
    def info(self) -> EngineInfo: ...

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        """Windows of the conversation under the policy.

        Raises InvalidInput where the conversation cannot be tokenized, PolicyError where the policy cannot be applied.
        """

    def cost(self, window: Window) -> int:
        """The tokens that a window takes in a batch, before padding."""


class Engine(Renderer, Protocol):
    """Loads a bundle once and scores batches.

    Thread-safe: every method may be called from several threads. Batch-invariant: a window's score does not depend on
    its batch-mates (|Δp| ≤ 1e-3).
    """

    @property
    def renderer(self) -> Renderer:
        """What makes its windows: itself, unless it scores in other processes (guard.engines.pool)."""

    @property
    def ready(self) -> bool:
        """Whether it can score; an engine in another process cannot while that is started again."""

    def prepare(self, policy: Policy) -> None:
        """Computes and caches what scoring needs of a policy, so that `score` need not; free if cached."""

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        """The scores of windows, in order; they may belong to several policies.

        A window that cannot be scored gets its own error. Raises EngineError where none can be scored, EngineDown
        where its process ends meanwhile.
        """

    def warm(self) -> None:
        """Scores something small under the bundle's own policy, so that the first request is as fast as the next."""

    def close(self) -> None:
        """Releases the model and the caches; scoring raises EngineError from then on."""


def all_scores(engine: Engine, windows: Sequence[Window]) -> list[Score]:
    """The scores of windows; raises the first error."""
    scores = []
    for score in engine.score(windows):
        if isinstance(score, EngineError):
            raise score
        scores.append(score)
    return scores


def sound(score: Score, window: Window) -> Score | EngineError:
    """The score, or EngineError unless it has a finite number for the verdict and for each category."""
    expected = len(window.policy.categories)
    if len(score.categories) == expected and all(map(math.isfinite, (score.unsafe, *score.categories))):
        return score
    return EngineError(
        "the engine returned a score without a finite number for the verdict and each category; the model is faulty, "
        "or the engine has a bug"
    )


def padded_batches(costs: Sequence[int], max_tokens: int, max_items: int = 64) -> list[list[int]]:
    """Batches of indices with similar costs, each of at most `max_tokens` counted with padding (or one item)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(costs)), key=lambda i: costs[i]):
        batch = batches[-1] if batches else None
        if batch is not None and len(batch) < max_items and costs[index] * (len(batch) + 1) <= max_tokens:
            batch.append(index)
        else:
            batches.append([index])
    return batches
