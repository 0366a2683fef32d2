"""What every engine is: windows of a conversation in, log-odds out."""

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
    """What an engine is and how it wants to be used."""

    kind: str  # of backbone: `mini`, `causal`, `fake`, …
    digest: str  # of the bundle's contents; travels in every verdict
    languages: tuple[str, ...]  # that it was trained for, as BCP 47 tags; empty: nobody said
    parallel_calls: int  # calls of `score` at once that are faster than one after the other
    device: str  # like `cpu` or `cuda:0`
    batch_tokens: int  # padded tokens, as `cost` counts them, beyond which a larger batch is not faster


class Engine(Protocol):
    """Loads a bundle once and scores batches.

    Thread-safe: every method may be called from several threads. Batch-invariant: a window's score does not depend on
    its batch-mates (|Δp| ≤ 1e-3). Nothing is truncated.
    """

    @property
    def info(self) -> EngineInfo: ...

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        """Windows of the conversation under the policy.

        Raises InvalidInput where the conversation cannot be tokenized, PolicyError where the policy cannot be applied.
        """

    def prepare(self, policy: Policy) -> None:
        """Computes and keeps what scoring needs of a policy, so that `score` need not; costs nothing if it is kept."""

    def cost(self, window: Window) -> int:
        """The tokens that a window takes in a batch, before padding."""

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        """The scores of windows, which may be of several policies, in order.

        A window that cannot be scored gets the error of its own. Raises EngineError where none of them can be.
        """

    def warm(self) -> None:
        """Scores something small under the bundle's own policy, so that the first request is as fast as the next."""

    def close(self) -> None:
        """Lets go of the model and of what is kept; scoring raises EngineError from then on."""


def all_scores(engine: Engine, windows: Sequence[Window]) -> list[Score]:
    """The scores of windows, none of which may fail: raises the error of the first that did."""
    scores = []
    for score in engine.score(windows):
        if isinstance(score, EngineError):
            raise score
        scores.append(score)
    return scores


def sound(score: Score, window: Window) -> Score | EngineError:
    """The score, or the error that it is not one: it needs a finite number for the verdict and for each category."""
    expected = len(window.policy.categories)
    if len(score.categories) == expected and all(map(math.isfinite, (score.unsafe, *score.categories))):
        return score
    return EngineError(
        "the engine gave a score without a finite number for the verdict and each category; this is a fault of the "
        "model or a bug of the engine"
    )


def padded_batches(costs: Sequence[int], max_tokens: int, max_items: int = 64) -> list[list[int]]:
    """Indices cut into batches of near costs, each of at most `max_tokens` counted with padding (or one item)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(costs)), key=lambda i: costs[i]):
        batch = batches[-1] if batches else None
        if batch is not None and len(batch) < max_items and costs[index] * (len(batch) + 1) <= max_tokens:
            batch.append(index)
        else:
            batches.append([index])
    return batches
