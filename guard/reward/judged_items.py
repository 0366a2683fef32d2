"""Items of judgements that a model wrote about pairs: what it got right, and right ones against wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from guard.errors import DataError
from guard.reward.items import preferred
from guard.reward.row import RewardRow
from guard.reward.supervision import Item, Supervision

NO_RIGHT = (
    "the model wrote no judgement that ends with the right word, so that it cannot learn from its own; give rows with "
    "a `critique` to imitate first, more `judgements`, or more `reply_tokens`"
)
SEPARATOR = "\n---\n"


def rationales(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Judgements that end with the right word, told or not, as if nobody had told it (STaR)."""
    items = []
    for row in rows:
        right = [each for each in given.judgements.get(row.pair_key, ()) if each.word == given.word(each.turned)]
        plain = [each for each in right if not each.hinted] or right
        for each in plain:
            ids, coverage = given.quoted(row, each.turned)
            verdict = given.verdict(each.turned, each.reason)
            items.append(Item(ids, verdict, weight=row.weight / len(plain), coverage=coverage))
    if not items:
        raise DataError(NO_RIGHT)
    return items


def contrasted(given: Supervision, rows: Sequence[RewardRow], most: int = 3) -> list[Item]:
    """At most `most` right judgements of a row in each order, against wrong ones of the same order; none where the
    model judges every row right. DataError if it judges none right."""
    items, found_right = [], False
    for row in rows:
        pairs = []
        for turned in (False, True):
            told = [each for each in given.judgements.get(row.pair_key, ()) if each.turned is turned]
            right = [each for each in told if each.word == given.word(turned)]
            wrong = [each for each in told if each.word == given.word(not turned)]
            found_right |= bool(right)
            pairs += [(turned, a, b) for a, b in zip(right[:most], wrong[:most], strict=False)]
        for turned, a, b in pairs:
            ids, coverage = given.quoted(row, turned)
            better, worse = given.verdict(turned, a.reason), given.verdict(not turned, b.reason)
            items.append(Item(ids, better, worse, weight=row.weight / len(pairs), coverage=coverage))
    if not found_right:
        raise DataError(NO_RIGHT)
    return items


def three_tasks(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Judgements with reasons, bare verdicts, and answers told from a judgement (Wang et al. 2024, arXiv:2409.14664).

    The wrong deduction has the two answers exchanged. A row's critique is used where no judgement is right.
    """
    items = contrasted(given, rows)
    bare = dataclasses.replace(given, question="prefer", judgements={})
    items += preferred(bare, rows)
    for row in rows:
        right = [each for each in given.judgements.get(row.pair_key, ()) if each.word == given.word(each.turned)]
        reason, turned = (right[0].reason, right[0].turned) if right else (row.critique or "", False)
        if not reason:
            continue
        asked = given.prompts.ask("deduce", row.prompt, (("critique", reason),))
        answers = [row.chosen or "", row.rejected or ""][:: -1 if turned else 1]
        told, exchanged = (given.prompts.reply(SEPARATOR.join(texts)) for texts in (answers, answers[::-1]))
        items.append(Item(asked.ids, told, exchanged, weight=row.weight, coverage=asked.coverage))
    return items
