"""The worst mistakes of a guard on a set: wrong verdicts of the highest confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.conversation import Conversation, Label
from guard.evaluate.suite import Case
from guard.verdict import Verdict

MAX_SHOWN = 15  # of each kind


@dataclass(frozen=True, slots=True, repr=False)
class Mistake:
    """A row whose label and verdict differ. `first`: the first code of the verdict."""

    id: str
    label: Label
    p: float
    threshold: float
    first: str
    conversation: Conversation

    @property
    def characters(self) -> int:
        return len(self.conversation.judged.content)


def worst_mistakes(
    cases: Sequence[Case], verdicts: Sequence[Verdict], label: Label, at_most: int = MAX_SHOWN
) -> list[Mistake]:
    """The wrong rows of a label, furthest from their threshold first; ties in the order of the set."""
    wrong = [
        (abs(verdict.p_unsafe - verdict.threshold), index)
        for index, (case, verdict) in enumerate(zip(cases, verdicts, strict=True))
        if case.label == label and (verdict.p_unsafe >= verdict.threshold) != (label == "unsafe")
    ]
    worst = [index for _, index in sorted(wrong, key=lambda pair: (-pair[0], pair[1]))[:at_most]]
    return [_mistake(cases[index], verdicts[index], index) for index in worst]


def _mistake(case: Case, verdict: Verdict, index: int) -> Mistake:
    first = max(verdict.categories, key=lambda code: verdict.categories[code], default="")
    id = case.id or f"case {index + 1}"
    return Mistake(id, case.label, verdict.p_unsafe, verdict.threshold, first, case.conversation)
