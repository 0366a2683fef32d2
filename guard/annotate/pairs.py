"""Preference pairs by a judge: two answers are compared in both orders, and what depends on the order is dropped."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from guard.annotate.prompts import POINTS, TEMPLATE, TEMPLATE_DIGEST, compare_question, read_mark
from guard.annotate.question import Voice, Voices, ask
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
class Comparing:
    """How answers are compared. answers: how many a prompt gets that has fewer than two."""

    task: ClassVar[Task] = "compare"
    policy: Policy | None
    criterion: str = TEMPLATE.compare.criterion
    answers: int = 2

    @property
    def digest(self) -> str:
        """sha256 (hex) of the criterion."""
        return hashlib.sha256(self.criterion.encode("utf-8", "replace")).hexdigest()

    def judge(self, case: Case, voices: Voices, counts: Counter[str]) -> Finding:
        """Compares every two answers. InvalidInput if there are fewer than two and nobody to write them."""
        written = len(case.responses) < 2
        answers = list(case.responses)
        if written:
            answers += self._write(case, voices.generator, counts)
        answers = list(dict.fromkeys(answers))
        if len(answers) < 2:
            return Finding("dropped", ALIKE, dropped=({"id": case.id, "reason": ALIKE},))
        own = {key: value for key, value in case.row.items() if key not in ("id", "prompt", "responses")}
        by = {"model": voices.judge.model.endpoint.model, "template": TEMPLATE_DIGEST, "criterion": self.digest}
        if self.policy:
            by["policy"] = self.policy.digest
        if written and voices.generator:
            by["generator"] = voices.generator.model.endpoint.model
        kept, dropped = [], []
        for one, other in itertools.combinations(range(len(answers)), 2):
            pair = f"{case.id}-{one + 1}-{other + 1}"
            reason, told = self._compare(case.prompt, answers[one], answers[other], voices.judge, counts)
            if reason:
                dropped.append({"id": pair, "reason": reason, **told})
                continue
            points = POINTS[told["marks"][0]] - POINTS[told["marks"][1]]
            chosen, rejected = (one, other) if points > 0 else (other, one)
            texts = {"prompt": case.prompt, "chosen": answers[chosen], "rejected": answers[rejected]}
            kept.append({"id": pair, **texts, "margin": abs(points), **told, **own, "judge": by})
        counts["pairs kept"] += len(kept)
        counts.update(f"pairs dropped: {each['reason']}" for each in dropped)
        if kept:
            return Finding("kept", "", tuple(kept), tuple(dropped))
        reasons = {each["reason"] for each in dropped}
        return Finding("dropped", reasons.pop() if len(reasons) == 1 else SEVERAL, (), tuple(dropped))

    def _write(self, case: Case, generator: Voice | None, counts: Counter[str]) -> list[str]:
        """Answers to fill the row's up. One that was cut or is empty is left out."""
        own = len(case.responses)
        if generator is None:
            raise InvalidInput(f"has {own} `responses` where two are needed, and no model was given to write them")
        written = []
        for seed in range(self.answers - own):  # one by one: many servers ignore `n`
            text, whole = generator.answer((Message("user", case.prompt),), counts, seed)
            if whole and text.strip():
                written.append(text)
            else:
                counts["answers cut or empty"] += 1
        return written

    def _compare(
        self, prompt: str, one: str, other: str, judge: Voice, counts: Counter[str]
    ) -> tuple[str, dict[str, Any]]:
        """(why the pair is dropped, or nothing; marks and reasons). `one` is answer A in the first order, then B."""
        marks: list[str] = []
        reasons: list[str] = []
        for first, second in ((one, other), (other, one)):
            question = compare_question(prompt, first, second, self.criterion, self.policy)
            mark, reason = ask(judge, question, _read, TEMPLATE.compare.reminder, counts)
            reasons.append(reason)
            if mark is None:
                break
            marks.append(mark)
            counts[f"preferred {('second', 'neither', 'first')[_sign(POINTS[mark]) + 1]}"] += 1
        told = {"marks": marks, "reason_ab": reasons[0], "reason_ba": reasons[1] if len(reasons) > 1 else ""}
        if len(marks) < 2:
            return UNPARSED, told
        ab, ba = _sign(POINTS[marks[0]]), -_sign(POINTS[marks[1]])
        if ab != ba:
            counts["disagreed"] += 1
            return DISAGREE, told
        counts["unanimous"] += 1
        return ("" if ab else TIE), told


def _sign(points: int) -> int:
    return (points > 0) - (points < 0)


def _read(answer: str, alone: bool) -> tuple[str, str]:
    return read_mark(answer)
