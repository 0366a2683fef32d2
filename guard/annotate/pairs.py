"""Preference pairs by a judge: answers are compared in both orders; pairs whose result depends on it are dropped."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from guard.annotate.prompts import POINTS, TEMPLATE, TEMPLATE_DIGEST, compare_question, parse_mark
from guard.annotate.question import ModelClient, Models, ask
from guard.annotate.rows import Case, Finding, Task
from guard.conversation import Message
from guard.errors import InvalidInput
from guard.policy import Policy

UNPARSED = "unparsed"
DISAGREE = "orders disagree"
TIE = "tie"
ALIKE = "fewer than two different answers"
SEVERAL = "several reasons"


@dataclass(frozen=True, slots=True)
class CompareTask:
    """Comparison of answers by a criterion. answers: the number that a prompt with fewer than two is filled up to."""

    name: ClassVar[Task] = "compare"
    policy: Policy | None
    criterion: str = TEMPLATE.compare.criterion
    answers: int = 2

    @property
    def digest(self) -> str:
        """sha256 (hex) of the criterion."""
        return hashlib.sha256(self.criterion.encode("utf-8", "replace")).hexdigest()

    def judge(self, case: Case, models: Models, counts: Counter[str]) -> Finding:
        """Compare every two answers. InvalidInput if there are fewer than two and no generator."""
        generated = len(case.responses) < 2
        answers = list(case.responses)
        if generated:
            answers += self._generate(case, models.generator, counts)
        answers = list(dict.fromkeys(answers))
        if len(answers) < 2:
            return Finding("dropped", ALIKE, dropped=({"id": case.id, "reason": ALIKE},))
        columns = {key: value for key, value in case.row.items() if key not in ("id", "prompt", "responses")}
        judge = {"model": models.judge.model.endpoint.model, "template": TEMPLATE_DIGEST, "criterion": self.digest}
        if self.policy:
            judge["policy"] = self.policy.digest
        if generated and models.generator:
            judge["generator"] = models.generator.model.endpoint.model
        kept, dropped = [], []
        for first, second in itertools.combinations(range(len(answers)), 2):
            id = f"{case.id}-{first + 1}-{second + 1}"
            reason, judgement = self._compare(case.prompt, answers[first], answers[second], models.judge, counts)
            if reason:
                dropped.append({"id": id, "reason": reason, **judgement})
                continue
            points = POINTS[judgement["marks"][0]] - POINTS[judgement["marks"][1]]
            chosen, rejected = (first, second) if points > 0 else (second, first)
            texts = {"prompt": case.prompt, "chosen": answers[chosen], "rejected": answers[rejected]}
            kept.append({"id": id, **texts, "margin": abs(points), **judgement, **columns, "judge": judge})
        counts["pairs kept"] += len(kept)
        counts.update(f"pairs dropped: {pair['reason']}" for pair in dropped)
        if kept:
            return Finding("kept", "", tuple(kept), tuple(dropped))
        reasons = {pair["reason"] for pair in dropped}
        return Finding("dropped", reasons.pop() if len(reasons) == 1 else SEVERAL, (), tuple(dropped))

    def _generate(self, case: Case, generator: ModelClient | None, counts: Counter[str]) -> list[str]:
        """Generated answers to fill up the row's own. Truncated and empty ones are left out."""
        present = len(case.responses)
        if generator is None:
            raise InvalidInput(f"has {present} `responses`; needs 2, or a model to generate them (--generator-model)")
        generated = []
        for seed in range(self.answers - present):  # one by one: many servers ignore `n`
            text, complete = generator.answer((Message("user", case.prompt),), counts, seed)
            if complete and text.strip():
                generated.append(text)
            else:
                counts["answers cut or empty"] += 1
        return generated

    def _compare(
        self, prompt: str, first: str, second: str, judge: ModelClient, counts: Counter[str]
    ) -> tuple[str, dict[str, Any]]:
        """(reason to drop the pair, or ""; marks and reasons). `first` is answer A in the first order, then B."""
        marks: list[str] = []
        reasons: list[str] = []
        for a, b in ((first, second), (second, first)):
            question = compare_question(prompt, a, b, self.criterion, self.policy)
            mark, reason = ask(judge, question, _parse, TEMPLATE.compare.reminder, counts)
            reasons.append(reason)
            if mark is None:
                break
            marks.append(mark)
            counts[f"preferred {('second', 'neither', 'first')[_sign(POINTS[mark]) + 1]}"] += 1
        judgement = {"marks": marks, "reason_ab": reasons[0], "reason_ba": reasons[1] if len(reasons) > 1 else ""}
        if len(marks) < 2:
            return UNPARSED, judgement
        ab, ba = _sign(POINTS[marks[0]]), -_sign(POINTS[marks[1]])
        if ab != ba:
            counts["disagreed"] += 1
            return DISAGREE, judgement
        counts["unanimous"] += 1
        return ("" if ab else TIE), judgement


def _sign(points: int) -> int:
    return (points > 0) - (points < 0)


def _parse(answer: str, bare: bool) -> tuple[str, str]:
    return parse_mark(answer)
