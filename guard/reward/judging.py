"""What a model writes about rows before a stage learns from it: judgements of pairs, or reviews of answers."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from guard.jobs.atomic import atomic
from guard.prompts.window import Ids
from guard.reward.base import Base
from guard.reward.items import review
from guard.reward.prompts import RewardPrompts
from guard.reward.row import RewardRow, digest
from guard.reward.supervision import Judgement, Supervision
from guard.reward.template import Question, template

UNPARSED = "without a verdict"


def parse(question: Question, text: str) -> tuple[str, str | None]:
    """(reason, word) of a judgement: the word behind the last marker; None if there is none, which is never guessed."""
    reason, marker, rest = text.rpartition(question.marker)
    if not marker:
        return question.read(text), None
    return question.read(reason), next((word for word in question.words if rest.strip().startswith(word)), None)


def decoded(prompts: RewardPrompts, ids: Ids) -> str:
    return str(prompts.chat.tokenizer.decode(list(ids), skip_special_tokens=False))


def seed_of(*parts: object) -> int:
    """A seed for a text, the same in every process."""
    return int(digest([str(part) for part in parts])[:8], 16)


def judge(
    base: Base,
    adapter: str | None,
    given: Supervision,
    rows: Sequence[RewardRow],
    count: int,
    seed: int,
    heat: float = 1.0,
) -> tuple[dict[str, tuple[Judgement, ...]], Counter[str]]:
    """`count` judgements of each pair in each order; and one for each word that none ends with, which is hinted.

    Judgements that end with no word are kept as such and counted.
    """
    asked = [(row, turned, "") for row in rows for turned in (False, True)]
    plain = _written(base, adapter, given, asked, count, seed, heat)
    words = template().questions[given.question].words
    missing = [
        (row, turned, word)
        for (row, turned, _), told in zip(asked, plain, strict=True)
        for word in words
        if not any(each.word == word for each in told)
    ]
    hinted = _written(base, adapter, given, missing, 1, seed + 1, heat)
    found: dict[str, list[Judgement]] = {row.id: [] for row in rows}
    for (row, _, _), told in zip([*missing, *asked], [*hinted, *plain], strict=True):
        found[row.id] += told
    every = [each for told in found.values() for each in told]
    counts = Counter(
        UNPARSED if each.word is None else "right" if each.word == given.word(each.turned) else "wrong"
        for each in every
    )
    counts["hinted"] = sum(each.hinted for each in every)
    return {name: tuple(told) for name, told in found.items()}, counts


def _written(
    base: Base,
    adapter: str | None,
    given: Supervision,
    asked: Sequence[tuple[RewardRow, bool, str]],
    count: int,
    seed: int,
    heat: float,
) -> list[list[Judgement]]:
    """`count` judgements of each row in the order, and with the hint, that is asked for."""
    question, prompts = template().questions[given.question], given.prompts
    rendered = [given.quoted(row, turned, hint)[0] for row, turned, hint in asked]
    replies = base.sample(rendered, count, prompts.reply_tokens, seed, prompts.chat.end, adapter, heat)
    found = []
    for (_, turned, hint), texts in zip(asked, replies, strict=True):
        parsed = [parse(question, decoded(prompts, text)) for text in texts]
        # A reason for another word than the hinted one is no reason for either.
        found.append([Judgement(r, w if not hint or w == hint else None, turned, bool(hint)) for r, w in parsed])
    return found


def reviews(base: Base, adapter: str | None, prompts: RewardPrompts, rows: Sequence[RewardRow]) -> list[RewardRow]:
    """The rows with the reviews that the model itself writes, the most probable ones, in place of those given."""
    asked = [(row.prompt, answer or "") for row in rows for answer in (row.chosen, row.rejected)]
    texts = written_reviews(base, adapter, prompts, [review(prompts, *each)[0] for each in asked])
    return [
        dataclasses.replace(row, chosen_critique=chosen, rejected_critique=rejected)
        for row, chosen, rejected in zip(rows, texts[::2], texts[1::2], strict=True)
    ]


def written_reviews(base: Base, adapter: str | None, prompts: RewardPrompts, asked: Sequence[Ids]) -> list[str]:
    """The most probable review behind each prompt."""
    replies = base.sample(asked, 1, prompts.reply_tokens, 0, prompts.chat.end, adapter, heat=0)
    return [decoded(prompts, reply) for (reply,) in replies]


def save_judgements(found: dict[str, tuple[Judgement, ...]], path: Path) -> None:
    """One line a row: only the owner may read it, because it holds what a model wrote about users' texts."""
    with atomic(path, private=True) as file:
        for name, judgements in found.items():
            line = {"id": name, "judgements": [dataclasses.asdict(each) for each in judgements]}
            file.write(json.dumps(line).encode() + b"\n")


def load_judgements(path: Path) -> dict[str, tuple[Judgement, ...]]:
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["id"]: tuple(Judgement(**each) for each in line["judgements"]) for line in lines}
