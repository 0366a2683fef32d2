"""The five ways to read a score off a causal language model: token, cot, pair, scalar, implicit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guard.conversation import Conversation, Message
from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids
from guard.reward.base import Base
from guard.reward.heads import GatedHead, LinearHead
from guard.reward.items import review
from guard.reward.judging import decoded, parse, seed_of, written_reviews
from guard.reward.prompts import RewardPrompts
from guard.reward.score import Asked, Compared, Reading
from guard.reward.systems import Rule, System
from guard.reward.template import Label, Question, template

SINGLE: Label = "answer"


@dataclass(frozen=True, eq=False)
class CausalReader:
    """A system's model: the base, its adapter and its head, and what renders its prompts."""

    system: System
    base: Base
    prompts: RewardPrompts
    adapter: str | None = None
    head: LinearHead | None = None
    guard: tuple[Prompt, Policy] | None = None
    beta: float = 0.1
    seed: int = 0

    @property
    def pairwise(self) -> bool:
        return self.system.question.startswith("prefer")

    @property
    def question(self) -> Question:
        return template().questions[self.system.question]

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        return _SINGLES[self.system.rule](self, asked) if asked else []

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        """The log-odds of the first answer in both orders."""
        first = self._orders([(prompt, a, b) for prompt, a, b in asked])
        second = self._orders([(prompt, b, a) for prompt, a, b in asked])
        return [(a, dataclasses.replace(b, z=-b.z)) for a, b in zip(first, second, strict=True)]

    def seeded(self, seed: int) -> CausalReader:
        return dataclasses.replace(self, seed=seed)

    def _orders(self, asked: Sequence[Compared]) -> list[Reading]:
        rendered = [
            self.prompts.ask(self.system.question, prompt, (("first", a), ("second", b))) for prompt, a, b in asked
        ]
        coverages = [each.coverage for each in rendered]
        return self._words([each.ids for each in rendered], coverages, self.system.rule == "cot")

    # -- words ----------------------------------------------------------------------------------------------------

    def _words(self, rows: Sequence[Ids], coverages: Sequence[float], reasons: bool) -> list[Reading]:
        """The log-odds of the first word, behind the cue, or behind reasons that the model writes first."""
        words = self.prompts.words(self.question)
        if reasons and rows:
            return self._reasoned(rows, coverages, words)
        logps = self.base.next_word(rows, words, self.adapter)
        return [_of_words(logp, coverage) for logp, coverage in zip(logps, coverages, strict=True)]

    def _reasoned(self, rows: Sequence[Ids], coverages: Sequence[float], words: Ids) -> list[Reading]:
        """The mean probability of the first word behind `samples` reasons, each followed by the marker, forced. A
        single reason is the most probable one."""
        count, tokens, ends = self.system.samples, self.prompts.reply_tokens, self.prompts.chat.end
        seeds = [seed_of(self.seed, row) for row in rows]
        replies = self.base.sample(rows, count, tokens, seeds, ends, self.adapter, heat=float(count > 1))
        reasons = [[parse(self.question, decoded(self.prompts, text))[0] for text in texts] for texts in replies]
        behind = [
            (*row, *self.prompts.lead(self.question, reason))
            for row, told in zip(rows, reasons, strict=True)
            for reason in told
        ]
        logps = self.base.next_word(behind, words, self.adapter).reshape(len(rows), count, len(words))
        p = torch.softmax(logps, -1)[..., 0].mean(1).clamp(1e-6, 1 - 1e-6)
        mass = logps.exp().sum(-1).mean(1)
        return [
            Reading(float(z), float(m), coverage, told[0].strip())
            for z, m, coverage, told in zip(torch.logit(p), mass, coverages, reasons, strict=True)
        ]


def _of_words(logp: Tensor, coverage: float) -> Reading:
    """Two words: their log-odds. More, the best first: the log-odds of the expected grade."""
    mass = float(logp.exp().sum())
    if len(logp) == 2:
        return Reading(float(logp[0] - logp[1]), mass, coverage)
    grades = torch.linspace(1, 0, len(logp))
    expected = float((torch.softmax(logp, 0) * grades).sum())
    expected = min(max(expected, 1e-4), 1 - 1e-4)
    return Reading(math.log(expected / (1 - expected)), mass, coverage)


def _token(reader: CausalReader, asked: Sequence[Asked]) -> list[Reading]:
    if reader.guard is not None:
        return _verdicts(reader, asked)
    rendered = [reader.prompts.ask(reader.system.question, prompt, ((SINGLE, text),)) for prompt, text in asked]
    return reader._words([each.ids for each in rendered], [each.coverage for each in rendered], False)


def _cot(reader: CausalReader, asked: Sequence[Asked]) -> list[Reading]:
    rendered = [reader.prompts.ask(reader.system.question, prompt, ((SINGLE, text),)) for prompt, text in asked]
    return reader._words([each.ids for each in rendered], [each.coverage for each in rendered], True)


def _verdicts(reader: CausalReader, asked: Sequence[Asked]) -> list[Reading]:
    """log p(safe) - log p(unsafe) of the worst window, by the guard's own prompt."""
    assert reader.guard is not None
    prompt, rules = reader.guard
    prefix, rows, owners = prompt.prefix_ids(rules), [], []
    for index, (messages, text) in enumerate(asked):
        for window in prompt.tokenize(Conversation((*messages, Message("assistant", text))), rules).windows:
            rows.append((*prefix, *window.ids))
            owners.append(index)
    logps = reader.base.next_word(rows, (prompt.safe[0], prompt.unsafe[0]), reader.adapter)
    found: dict[int, Reading] = {}
    for index, logp in zip(owners, logps, strict=True):
        reading = _of_words(logp, 1.0)
        if index not in found or reading.z < found[index].z:
            found[index] = reading
    return [found[index] for index in range(len(asked))]


def _scalar(reader: CausalReader, asked: Sequence[Asked]) -> list[Reading]:
    """The head's number at the end of the answer, or of the review that the model writes first."""
    assert reader.head is not None
    written = [""] * len(asked)
    if reader.head.kind == "critic":
        shown = [review(reader.prompts, *each) for each in asked]
        prompts, coverages = [ids for ids, _ in shown], [coverage for _, coverage in shown]
        written = written_reviews(reader.base, reader.adapter, reader.prompts, prompts)
        answers = [reader.prompts.reply(text) for text in written]
    else:
        rendered = [reader.prompts.dialogue(messages, text) for messages, text in asked]
        prompts, coverages = [each.ids for each, _ in rendered], [each.coverage for each, _ in rendered]
        answers = [answer for _, (answer,) in rendered]
    rows = [(*before, *answer) for before, answer in zip(prompts, answers, strict=True)]
    states = reader.base.hidden(rows, reader.adapter)
    before = reader.base.hidden(prompts, reader.adapter) if isinstance(reader.head, GatedHead) else states
    with torch.no_grad():
        scores, attributes = reader.head(states, before)
    names = reader.head.names
    return [
        Reading(float(score), 1.0, coverage, text, dict(zip(names, map(float, values), strict=True)))
        for score, values, coverage, text in zip(scores, attributes, coverages, written, strict=True)
    ]


def _implicit(reader: CausalReader, asked: Sequence[Asked]) -> list[Reading]:
    """β · (log π(answer) - log π_ref(answer)): the adapter on, less the adapter off."""
    rendered = [reader.prompts.dialogue(messages, text) for messages, text in asked]
    prompts, answers = [each.ids for each, _ in rendered], [reply for _, (reply,) in rendered]
    own = reader.base.completion(prompts, answers, reader.adapter)
    reference = reader.base.completion(prompts, answers, None)
    return [
        Reading(float(reader.beta * (a - b)), coverage=each.coverage)
        for a, b, (each, _) in zip(own, reference, rendered, strict=True)
    ]


_SINGLES: Mapping[Rule, Callable[[CausalReader, Sequence[Asked]], list[Reading]]] = {
    "token": _token,
    "cot": _cot,
    "scalar": _scalar,
    "implicit": _implicit,
}
