"""Windows of token ids, the scores that they get, and the one rule by which the windows of a conversation count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.policy import Policy

Ids = tuple[int, ...]
RESPONSE = "response"  # what is asked of a guard that judges the request, too, before the response


@dataclass(frozen=True, slots=True, repr=False)
class Window:
    """One model input: token ids under a policy. Equal windows have equal scores.

    ids, segments: token ids and segment ids, same length (causal guards leave segments empty; the policy's own
    tokens are not part of a window). start, end: characters of the judged message that it covers. stage: of a cascade,
    which engine is to score it (guard.engines.cascade). asks: what a guard is asked that answers one thing a call, a
    category's code or RESPONSE; empty for all others. view: the place of its text among the views of the judged message
    (guard.views.view); None of the message as it stands.
    """

    policy: Policy
    ids: Ids
    segments: Ids
    start: int
    end: int
    stage: int = 0
    asks: str = ""
    view: int | None = None

    def __repr__(self) -> str:  # token ids are user text in another form
        return f"Window(<{len(self.ids)} tokens>)"

    @property
    def key(self) -> tuple[int, str, Ids, Ids, str]:
        """What its score depends on."""
        return self.stage, self.policy.digest, self.ids, self.segments, self.asks


@dataclass(frozen=True, slots=True)
class TokenizedConversation:
    """A conversation as windows. Every token of it lies in at least one window, or tokens_seen says otherwise.

    After them may come windows of the views of the judged message, whose tokens do not count (guard.views.tokenize).
    unknown: of the tokens that were not seen, those of the judged message that the vocabulary does not know.
    """

    windows: tuple[Window, ...]
    tokens_seen: int
    tokens_total: int
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """Uncalibrated log-odds of one window, or of a conversation (see `combined`).

    unsafe: log p(unsafe) - log p(safe). categories: log-odds of each category, in the policy's order.
    refusal: log-odds that the judged response refuses, if the engine can tell.
    """

    unsafe: float
    categories: tuple[float, ...] = ()
    refusal: float | None = None


def worst_window(scores: Sequence[Score]) -> int:
    """Index of the window that decides: the first of those with the highest log-odds of unsafe."""
    return max(range(len(scores)), key=lambda index: scores[index].unsafe)


def combined(scores: Sequence[Score]) -> Score:
    """The score of a conversation from those of all its windows, views included; there is at least one.

    The verdict is the worst window's; a category is as likely as in the window where it is likeliest. A refusal is
    looked for where the text as it stands begins, in the first window.
    """
    return Score(
        scores[worst_window(scores)].unsafe,
        tuple(max(each) for each in zip(*(score.categories for score in scores), strict=True)),
        scores[0].refusal,
    )
