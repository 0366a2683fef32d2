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
    base: Base, adapter: str | None, given: Supervision, rows: Sequence[RewardRow], count: int, seed: int
) -> tuple[dict[str, tuple[Judgement, ...]], Counter[str]]:
    """`count` judgements of each pair in each order; and one for each word that none ends with, which is hinted.

    Judgements that end with no word are kept as such and counted.
    """
    found: dict[str, tuple[Judgement, ...]] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        written: list[Judgement] = []
        for turned in (False, True):
            plain = _written(base, adapter, given, row, turned, "", count, seed)
            for word in template().questions[given.question].words:
                if not any(each.word == word for each in plain):
                    written += _written(base, adapter, given, row, turned, word, 1, seed)
            written += plain
        for each in written:
            right = each.word == given.word(each.turned)
            counts[UNPARSED if each.word is None else "right" if right else "wrong"] += 1
            counts["hinted"] += each.hinted
        found[row.id] = tuple(written)
    return found, counts


def _written(
    base: Base, adapter: str | None, given: Supervision, row: RewardRow, turned: bool, hint: str, count: int, seed: int
) -> list[Judgement]:
    question = template().questions[given.question]
    ids, _ = given.quoted(row, turned, hint)
    tokens = given.prompts.reply_tokens
    ends = given.prompts.chat.end
    replies = base.sample(ids, count, tokens, seed_of(seed, row.id, turned, hint), ends, adapter)
    parsed = [parse(question, decoded(given.prompts, reply)) for reply in replies]
    # A reason for a word that it was not told to argue for is no hinted one.
    return [Judgement(r, w if not hint or w == hint else None, turned, bool(hint)) for r, w in parsed]


def reviews(base: Base, adapter: str | None, prompts: RewardPrompts, rows: Sequence[RewardRow]) -> list[RewardRow]:
    """The rows with the reviews that the model itself writes, the most probable ones, in place of those given."""
    made = []
    for row in rows:
        texts = {}
        for side, answer in (("chosen", row.chosen), ("rejected", row.rejected)):
            ids, _ = review(prompts, row.prompt, answer or "")
            (reply,) = base.sample(ids, 1, prompts.reply_tokens, 0, prompts.chat.end, adapter, heat=0)
            texts[f"{side}_critique"] = decoded(prompts, reply)
        made.append(dataclasses.replace(row, **texts))
    return made


def save_judgements(found: dict[str, tuple[Judgement, ...]], path: Path) -> None:
    """One line a row: only the owner may read it, because it holds what a model wrote about users' texts."""
    with atomic(path, private=True) as file:
        for name, judgements in found.items():
            line = {"id": name, "judgements": [dataclasses.asdict(each) for each in judgements]}
            file.write(json.dumps(line).encode() + b"\n")


def load_judgements(path: Path) -> dict[str, tuple[Judgement, ...]]:
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["id"]: tuple(Judgement(**each) for each in line["judgements"]) for line in lines}
