"""Labels by a judge: all votes must agree, and every other vote sees the categories in reverse order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from guard.annotate.prompts import TEMPLATE, TEMPLATE_DIGEST, label_question, parse_verdict
from guard.annotate.question import ModelClient, Models, ask
from guard.annotate.rows import Case, Finding, Task
from guard.policy import Policy
from guard.prompts.grammar import write

UNPARSED = "unparsed"
LABELS_DISAGREE = "votes disagree on the label"
CODES_DISAGREE = "votes disagree on the categories"
Codes = tuple[str, ...]  # of a vote; empty for safe


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Labelling of rows under a policy, by several votes."""

    name: ClassVar[Task] = "label"
    policy: Policy
    votes: int = 2

    def judge(self, case: Case, models: Models, counts: Counter[str]) -> Finding:
        """Request vote after vote until one cannot be parsed or disagrees with the first."""
        votes: list[Codes] = []
        reasons: list[str] = []
        for number in range(self.votes):
            codes, reason = self._vote(number, case, models.judge, counts)
            reasons.append(reason)
            if codes is None:
                return self._dropped(UNPARSED, case, votes, reasons)
            votes.append(codes)
            if codes != votes[0]:
                counts["disagreed"] += 1
                disagreement = CODES_DISAGREE if codes and votes[0] else LABELS_DISAGREE
                return self._dropped(disagreement, case, votes, reasons)
        codes = votes[0]
        label = "unsafe" if codes else "safe"
        counts["unanimous"] += 1
        counts.update([label, *(f"category {code}" for code in codes)])
        judge = {
            "model": models.judge.model.endpoint.model,
            "template": TEMPLATE_DIGEST,
            "policy": self.policy.digest,
            "votes": self.votes,
            "reason": reasons[0],
        }
        columns = {key: value for key, value in case.row.items() if key != "id"}
        row = {"id": case.id, **columns, "label": label, "categories": list(codes), "judge": judge}
        return Finding("kept", rows=(row,))

    def _vote(self, number: int, case: Case, judge: ModelClient, counts: Counter[str]) -> tuple[Codes | None, str]:
        policy = self.policy
        if number % 2:
            policy = dataclasses.replace(policy, categories=policy.categories[::-1])
        # The first two requests differ by the order; later ones need a seed, or they would be answered from the cache.
        seed = number // 2 or None
        question = label_question(case.conversation, policy)
        return ask(judge, question, partial(_parse, policy), TEMPLATE.label.reminder, counts, seed)

    def _dropped(self, reason: str, case: Case, votes: list[Codes], reasons: list[str]) -> Finding:
        verdicts = [write(codes, self.policy, safe=not codes) for codes in votes]
        entry = {"id": case.id, "reason": reason, "verdicts": verdicts, "answers": reasons}
        return Finding("dropped", reason, dropped=(entry,))


def _parse(policy: Policy, answer: str, bare: bool) -> tuple[Codes, str]:
    return parse_verdict(answer, policy, bare)
