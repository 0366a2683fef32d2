"""What a reward model is asked about one answer, as its queue holds it, and how it answers a batch of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from guard.reward.score import Comparison, Messages, RewardScore
from guard.reward.scorer import Scorer
from guard.serve.limits import BYTES_PER_TOKEN

Told = RewardScore | Comparison


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Item:
    """What a reward model is asked about one answer; `other` is the answer to beat, or to compare with."""

    kind: Literal["score", "beat", "compare"]
    prompt: Messages
    response: str
    other: str = ""

    @property
    def key(self) -> Hashable:
        return self.kind, self.prompt, self.response, self.other

    @property
    def tokens(self) -> int:
        texts = (*(message.content for message in self.prompt), self.response, self.other)
        return 1 + sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN


def answered(scorer: Scorer, items: Sequence[Item]) -> list[Told]:
    """The answers of a reward model, in order; what is asked alike is asked together."""
    found: dict[int, Told] = {}
    for kind in dict.fromkeys(item.kind for item in items):
        places = [at for at, item in enumerate(items) if item.kind == kind]
        rows = [items[at] for at in places]
        asked = [(row.prompt, row.response) for row in rows]
        told: Sequence[Told]
        if kind == "compare":
            told = scorer.compare_many([(row.prompt, row.response, row.other) for row in rows])
        else:
            told = scorer.score_many(asked, [row.other for row in rows] if kind == "beat" else None)
        found.update(zip(places, told, strict=True))
    return [found[at] for at in range(len(items))]
