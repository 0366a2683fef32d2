"""What a trainer learns from, and what makes it of rows: items, judgements that a model wrote, and the renderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids
from guard.reward.prompts import RewardPrompts
from guard.reward.row import RewardRow
from guard.reward.template import template


@dataclass(frozen=True, slots=True, repr=False)
class Item:
    """A prompt with a completion, or with a better and a worse one.

    rejected_prompt: what stands before `rejected` where that is another prompt. margin: in log-odds, or the weight of a
    pair. values: of attributes, None where one is unknown. coverage: the share of its texts that fitted.
    """

    prompt: Ids
    chosen: Ids
    rejected: Ids = ()
    rejected_prompt: Ids = ()
    label: bool = True
    margin: float = 0.0
    values: tuple[float | None, ...] = ()
    weight: float = 1.0
    coverage: float = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Judgement:
    """A comparison that a model wrote: the reason, and the word it ends with; None if there is none.

    turned: whether the row's better answer stood second. hinted: whether the model was told the word.
    """

    reason: str
    word: str | None
    turned: bool
    hinted: bool = False


@dataclass(frozen=True, eq=False)
class Supervision:
    """How rows become items: the renderer, the question, attributes, what a model judged (by `pair_key`, what nobody
    hinted first), a guard's prompt, and what margins are multiplied by."""

    prompts: RewardPrompts
    question: str = ""
    attributes: tuple[str, ...] = ()
    judgements: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    guard: tuple[Prompt, Policy] | None = None
    margin: float = 0.0

    def quoted(self, row: RewardRow, turned: bool, hint: str = "") -> tuple[Ids, float]:
        """The question that compares the answers of a pair."""
        first, second = (row.rejected, row.chosen) if turned else (row.chosen, row.rejected)
        answers = (("first", first or ""), ("second", second or ""))
        asked = self.prompts.ask(self.question, row.prompt, answers, hint)  # type: ignore[arg-type]
        return asked.ids, asked.coverage

    def word(self, turned: bool) -> str:
        """The word that is right where the better answer stands first, or second."""
        return template().questions[self.question].words[turned]

    def verdict(self, turned: bool, reason: str = "") -> Ids:
        return self.prompts.verdict(template().questions[self.question], self.word(turned), reason)


Builder = Callable[[Supervision, Sequence[RewardRow]], list[Item]]
