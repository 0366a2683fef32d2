"""What a model writes about rows before a stage learns from it: judgements of pairs, or reviews of answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from guard.jobs.cache import Cache
from guard.prompts.window import Ids
from guard.reward.items import review
from guard.reward.prompts import RewardPrompts
from guard.reward.row import RewardRow, digest
from guard.reward.supervision import Judgement, Supervision
from guard.reward.template import Question, template

if TYPE_CHECKING:
    from guard.reward.base import Base

UNPARSED = "without a verdict"
CHUNK = 32  # rows whose texts are stored together, and lost together if the run is killed


def parse(question: Question, text: str) -> tuple[str, str | None]:
    """(reason, word) of a judgement: the word that is all that stands behind the last marker, but for the question's
    tail; None if there is none, which is never guessed: `Yesterday` is no `Yes`."""
    reason, marker, rest = text.rpartition(question.marker)
    if not marker:
        return question.read(text), None
    told = rest.strip().removesuffix(question.tail).rstrip()
    return question.read(reason), told if told in question.words else None


def decoded(prompts: RewardPrompts, ids: Ids) -> str:
    return str(prompts.chat.tokenizer.decode(list(ids), skip_special_tokens=False))


def seed_of(*parts: object) -> int:
    """A seed for a text, the same in every process."""
    return int(digest([str(part) for part in parts])[:8], 16)


def judge(
    base: Callable[[], Base],
    adapter: str | None,
    given: Supervision,
    rows: Sequence[RewardRow],
    count: int,
    seed: int,
    kept: Cache,
    heat: float = 1.0,
) -> tuple[dict[str, tuple[Judgement, ...]], Counter[str]]:
    """Judgements by `pair_key`: `count` of each pair in each order; and one for each word that none ends with, which is
    hinted.

    Judgements that end with no word, or have no reason, are kept as such and counted. base: opened only if something is
    missing in `kept`.
    """

    def write(chunk: Sequence[RewardRow]) -> list[Any]:
        found = _judged(base(), adapter, given, chunk, count, seed, heat)
        return [[dataclasses.asdict(each) for each in told] for told in found]

    told = _written("judgements-1", rows, kept, write)
    found = {row.pair_key: tuple(Judgement(**each) for each in plain) for row, plain in zip(rows, told, strict=True)}
    every = [each for judgements in found.values() for each in judgements]
    counts = Counter(
        UNPARSED if each.word is None else "right" if each.word == given.word(each.turned) else "wrong"
        for each in every
    )
    counts["hinted"] = sum(each.hinted for each in every)
    return found, counts


def _judged(
    base: Base,
    adapter: str | None,
    given: Supervision,
    rows: Sequence[RewardRow],
    count: int,
    seed: int,
    heat: float,
) -> list[list[Judgement]]:
    """The judgements of each row, those that nobody hinted first."""
    asked = [(row, turned, "") for row in rows for turned in (False, True)]
    plain = _sampled(base, adapter, given, asked, count, seed, heat)
    words = template().questions[given.question].words
    missing = [
        (row, turned, word)
        for (row, turned, _), told in zip(asked, plain, strict=True)
        for word in words
        if not any(each.word == word for each in told)
    ]
    hinted = _sampled(base, adapter, given, missing, 1, seed + 1, heat)
    found: dict[str, list[Judgement]] = {row.pair_key: [] for row in rows}
    for (row, _, _), told in zip([*asked, *missing], [*plain, *hinted], strict=True):
        found[row.pair_key] += told
    return [found[row.pair_key] for row in rows]


def _sampled(
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
    seeds = [seed_of(seed, ids) for ids in rendered]
    replies = base.sample(rendered, count, prompts.reply_tokens, seeds, prompts.chat.end, adapter, heat)
    found = []
    for (_, turned, hint), texts in zip(asked, replies, strict=True):
        parsed = [parse(question, decoded(prompts, text)) for text in texts]
        # A reason for another word than the hinted one is no reason for either; nor is an empty one.
        usable = [(r, w if r.strip() and (not hint or w == hint) else None) for r, w in parsed]
        found.append([Judgement(reason, word, turned, bool(hint)) for reason, word in usable])
    return found


def reviews(
    base: Callable[[], Base], adapter: str | None, prompts: RewardPrompts, rows: Sequence[RewardRow], kept: Cache
) -> list[RewardRow]:
    """The rows with the reviews that the model itself writes, the most probable ones, in place of those given. Rows of
    which it writes an empty one are left out. base: opened only if something is missing in `kept`."""

    def write(chunk: Sequence[RewardRow]) -> list[Any]:
        asked = [review(prompts, row.prompt, answer or "")[0] for row in chunk for answer in (row.chosen, row.rejected)]
        texts = written_reviews(base(), adapter, prompts, asked)
        return [list(both) for both in zip(texts[::2], texts[1::2], strict=True)]

    return [
        dataclasses.replace(row, chosen_critique=chosen, rejected_critique=rejected)
        for row, (chosen, rejected) in zip(rows, _written("reviews-1", rows, kept, write), strict=True)
        if chosen.strip() and rejected.strip()
    ]


def written_reviews(base: Base, adapter: str | None, prompts: RewardPrompts, asked: Sequence[Ids]) -> list[str]:
    """The most probable review behind each prompt."""
    replies = base.sample(asked, 1, prompts.reply_tokens, [0] * len(asked), prompts.chat.end, adapter, heat=0)
    return [decoded(prompts, reply) for (reply,) in replies]


def _written(
    kind: str, rows: Sequence[RewardRow], kept: Cache, write: Callable[[Sequence[RewardRow]], list[Any]]
) -> list[Any]:
    """What a model writes about each row, as JSON data, stored chunk by chunk: a run that was killed goes on with what
    is missing."""
    keys = [f"{kind}:{row.pair_key}" for row in rows]
    known = kept.get_many(keys)
    missing = list({key: row for key, row in zip(keys, rows, strict=True) if key not in known}.items())
    for chunk in (missing[at : at + CHUNK] for at in range(0, len(missing), CHUNK)):
        made = dict(zip((key for key, _ in chunk), write([row for _, row in chunk]), strict=True))
        kept.put_many(made)
        known |= made
    return [known[key] for key in keys]
