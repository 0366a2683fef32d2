"""Labels by a judge: every vote must agree, and from one to the next the categories are read out in another order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from guard.annotate.prompts import TEMPLATE, TEMPLATE_DIGEST, label_question, read_verdict
from guard.annotate.question import Voice, Voices, ask
from guard.annotate.rows import Case, Finding, Task
from guard.policy import Policy
from guard.prompts.grammar import write

UNPARSED = "unparsed"
OTHER_LABEL = "votes disagree on the label"
OTHER_CODES = "votes disagree on the categories"
Codes = tuple[str, ...]  # of a vote; none for safe


@dataclass(frozen=True, slots=True)
class Labelling:
    """How rows are labelled."""

    task: ClassVar[Task] = "label"
    policy: Policy
    votes: int = 2

    def judge(self, case: Case, voices: Voices, counts: Counter[str]) -> Finding:
        """Asks vote by vote until one cannot be read or disagrees with the first."""
        told: list[Codes] = []
        reasons: list[str] = []
        for vote in range(self.votes):
            codes, reason = self._vote(vote, case, voices.judge, counts)
            reasons.append(reason)
            if codes is None:
                return self._dropped(UNPARSED, case, told, reasons)
            told.append(codes)
            if codes != told[0]:
                counts["disagreed"] += 1
                disagreement = OTHER_CODES if codes and told[0] else OTHER_LABEL
                return self._dropped(disagreement, case, told, reasons)
        codes = told[0]
        label = "unsafe" if codes else "safe"
        counts["unanimous"] += 1
        counts.update([label, *(f"category {code}" for code in codes)])
        by = {
            "model": voices.judge.model.endpoint.model,
            "template": TEMPLATE_DIGEST,
            "policy": self.policy.digest,
            "votes": self.votes,
            "reason": reasons[0],
        }
        own = {key: value for key, value in case.row.items() if key != "id"}
        return Finding("kept", rows=({"id": case.id, **own, "label": label, "categories": list(codes), "judge": by},))

    def _vote(self, vote: int, case: Case, judge: Voice, counts: Counter[str]) -> tuple[Codes | None, str]:
        policy = self.policy
        if vote % 2:
            policy = dataclasses.replace(policy, categories=policy.categories[::-1])
        # The first two questions differ by the order; later ones need a seed, or they were answered already.
        seed = vote // 2 or None
        question = label_question(case.conversation, policy)
        return ask(judge, question, partial(_read, policy), TEMPLATE.label.reminder, counts, seed)

    def _dropped(self, reason: str, case: Case, told: list[Codes], reasons: list[str]) -> Finding:
        verdicts = [write(codes, self.policy, safe=not codes) for codes in told]
        entry = {"id": case.id, "reason": reason, "verdicts": verdicts, "answers": reasons}
        return Finding("dropped", reason, dropped=(entry,))


def _read(policy: Policy, answer: str, alone: bool) -> tuple[Codes, str]:
    return read_verdict(answer, policy, alone)
