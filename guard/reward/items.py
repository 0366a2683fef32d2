"""What trainers learn from: reward rows as token ids, a builder for each kind of supervision.

A builder takes rows that have the columns it needs, and gives items in their order. Nothing is tokenized later.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Sequence

from guard.conversation import Conversation, Message
from guard.errors import DataError
from guard.prompts.window import Ids
from guard.reward.convert import Account, converted, unpaired
from guard.reward.prompts import RewardPrompts
from guard.reward.row import RewardRow
from guard.reward.supervision import Item, Supervision
from guard.reward.template import template

# -- of dialogues -----------------------------------------------------------------------------------------------------


def ranked(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Pairs of answers behind a dialogue, with the margin where a row has one."""
    items = []
    for row in rows:
        prompt, (chosen, rejected) = given.prompts.dialogue(row.prompt, row.chosen or "", row.rejected or "")
        margin = given.margin * (row.margin or 0.0)
        items.append(Item(prompt.ids, chosen, rejected, margin=margin, weight=row.weight, coverage=prompt.coverage))
    return items


def rated(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Answers behind a dialogue, with the values of the attributes."""
    items = []
    for row in rows:
        prompt, (answer,) = given.prompts.dialogue(row.prompt, row.response or "")
        values = tuple(row.attributes.get(name) for name in given.attributes)
        items.append(Item(prompt.ids, answer, values=values, weight=row.weight, coverage=prompt.coverage))
    return items


def labelled(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Answers behind a dialogue that are desirable or not; a pair gives one of each."""
    items = []
    for row in rows:
        for half in unpaired(row):
            prompt, (answer,) = given.prompts.dialogue(half.prompt, half.response or "")
            items.append(
                Item(
                    prompt.ids,
                    answer,
                    label=bool(half.label),
                    weight=half.weight * 2 ** (row.chosen is not None),
                    coverage=prompt.coverage,
                )
            )
    return _both_labels(items)


# -- of questions -----------------------------------------------------------------------------------------------------


def checked(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Single answers with the verdict on them, behind the critique where the question asks for a reason. DataError for
    a row that has none: a verdict behind nothing teaches to give no reasons."""
    question, items = template().questions[given.question], []
    for row in rows:
        for half in unpaired(row):
            if question.marker and not (half.critique or "").strip():
                raise DataError(
                    f"row {row.id[:40]!r} has an answer without a reason; give `critique` beside `response`, or both "
                    "`chosen_critique` and `rejected_critique` beside a pair"
                )
            asked = given.prompts.ask(given.question, half.prompt, (("answer", half.response or ""),))
            word = question.words[not half.label]
            completion = given.prompts.verdict(question, word, half.critique or "")
            items.append(
                Item(
                    asked.ids,
                    completion,
                    label=bool(half.label),
                    weight=half.weight * 2 ** (row.chosen is not None),
                    coverage=asked.coverage,
                )
            )
    return _both_labels(items)


def preferred(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """The word for the better answer of a pair, in both orders, behind the row's critique where there is one."""
    items = []
    for row in rows:
        for turned in (False, True):
            ids, coverage = given.quoted(row, turned)
            right, wrong = (given.verdict(side, row.critique or "") for side in (turned, not turned))
            items.append(Item(ids, right, wrong, weight=row.weight / 2, coverage=coverage))
    return items


def reviewed(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """The review of each answer of a pair, written behind the question for one."""
    items = []
    for row in rows:
        for answer, critique in ((row.chosen, row.chosen_critique), (row.rejected, row.rejected_critique)):
            asked = review(given.prompts, row.prompt, answer or "")
            reply = given.prompts.reply(critique or "")
            items.append(Item(asked[0], reply, weight=row.weight / 2, coverage=asked[1]))
    return items


def reviewed_pairs(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """Pairs of answers, each with its review, behind which a reward is read."""
    items = []
    for row in rows:
        (chosen, first), (rejected, second) = (
            review(given.prompts, row.prompt, answer or "") for answer in (row.chosen, row.rejected)
        )
        better, worse = (given.prompts.reply(text or "") for text in (row.chosen_critique, row.rejected_critique))
        coverage = min(first, second)
        items.append(Item(chosen, better, worse, rejected_prompt=rejected, weight=row.weight, coverage=coverage))
    return items


def review(prompts: RewardPrompts, prompt: Sequence[Message], answer: str) -> tuple[Ids, float]:
    asked = prompts.ask("review", prompt, (("answer", answer),))
    return asked.ids, asked.coverage


# -- of a guard's verdicts --------------------------------------------------------------------------------------------


def verdicts(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """The right word of a guard's verdict against the wrong one, by the guard's own prompt. Without codes, behind which
    the word that decides would count for little. Rows of several windows are left out: no window of them has a label of
    its own."""
    assert given.guard is not None
    prompt, rules = given.guard
    safe, unsafe = ((*word, *prompt.chat.end) for word in (prompt.safe, prompt.unsafe))
    items = []
    for row in rows:
        conversation = Conversation((*row.prompt, Message("assistant", row.response or "")))
        windows = prompt.tokenize(conversation, rules).windows
        if len(windows) > 1:
            continue
        right, wrong = (safe, unsafe) if row.verdict == "safe" else (unsafe, safe)
        items.append(Item((*prompt.prefix_ids(rules), *windows[0].ids), right, wrong, weight=row.weight))
    if not items:
        raise DataError("no row fits one window under the policy, so that nothing can be learnt")
    return items


def single_verdicts(given: Supervision, rows: Sequence[RewardRow]) -> list[Item]:
    """The same as single verdicts: the right one is desirable, the wrong one is not."""
    items = []
    for item in verdicts(given, rows):
        items.append(dataclasses.replace(item, rejected=()))
        items.append(dataclasses.replace(item, chosen=item.rejected, rejected=(), label=False))
    return items


# -- checks and draws -------------------------------------------------------------------------------------------------


def pairs_of(rows: Sequence[RewardRow], attribute: str | None = None) -> list[RewardRow]:
    """All pairs that the rows hold or imply."""
    return list(converted(rows, "pairs", Account(), attribute))


def margin_unit(rows: Sequence[RewardRow], mean: float) -> float:
    """What margins are multiplied by, so that those above 0 have this mean: whatever scale the ratings have, it is
    `mean` log-odds by which a pair of usual margin is to lead."""
    margins = [row.margin for row in rows if row.margin]
    return mean / statistics.fmean(margins) if margins else 0.0


def drawn(items: Sequence[Item], epoch: int, seed: int) -> list[Item]:
    """An epoch in random order: each item as often as its weight says, the fraction by chance (systematic draws)."""
    order = sorted(items, key=lambda item: _hash((seed, epoch, item.prompt, item.chosen, item.rejected)))
    shown, total = [], _hash((seed, epoch))
    for item in order:
        before, total = total, total + item.weight
        shown += [item] * (math.floor(total) - math.floor(before))
    return shown


def _hash(value: object) -> float:
    """In [0, 1), the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:6]) / 2**48


def _both_labels(items: list[Item]) -> list[Item]:
    if len({item.label for item in items}) < 2:
        kind = "good" if items and items[0].label else "bad"
        raise DataError(f"all {len(items)} answers are labelled {kind}; give rows of both labels")
    return items
