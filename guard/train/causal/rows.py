"""The rows that a causal guard learns from, each with the policy that its label is of, and the verdict to learn."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from guard.conversation import Example
from guard.errors import DataError
from guard.policy import Category, Detail, Policy
from guard.prompts.causal import CausalPrompt
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids
from guard.train.augment.policy_views import decides
from guard.train.common.teaching import teaching

IGNORED = -100  # the label of a token that is not learnt, as torch's cross-entropy has it
DETAILS: tuple[Detail, ...] = ("names", "short", "full")
BESIDE = 0.1  # of rows under several rules, the share that is shown all of them: each has a prefix of its own
_MARKS = 128  # more tokens than mark a turn, or ask and answer the question


@dataclass(frozen=True, slots=True, repr=False)
class TrainingRow:
    """An example and the policy that its label is of. least: the least detail in which the policy says anything."""

    example: Example
    policy: Policy
    least: Detail = "names"


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of a split were read, and why some teach nothing."""

    read: int
    foreign: int  # violate only categories that the policy lacks, or nothing is decided about them
    weightless: int

    @property
    def kept(self) -> int:
        return self.read - self.foreign - self.weightless


def training_rows(examples: Sequence[Example], rules: Policy, where: str) -> tuple[list[TrainingRow], RowCounts]:
    """The examples that teach something under the policy. DataError if none does, or if all have one label."""
    kept = teaching(examples, rules, where)
    weightless = sum(not example.weight > 0 for example in examples)
    return [TrainingRow(example, rules) for example in kept], RowCounts(
        len(examples), len(examples) - weightless - len(kept), weightless
    )


def replay_rows(
    examples: Sequence[Example], rules: Policy, own: Sequence[TrainingRow], share: float
) -> list[TrainingRow]:
    """Rows of another policy beside a user's own, weighted so that they make up `share` of an epoch's draws."""
    taught = [TrainingRow(example, rules) for example in examples if example.weight > 0 and decides(example, rules)]
    if not taught:
        return []
    scale = _weight(row.example for row in own) / _weight(row.example for row in taught) * share / (1 - share)
    return [TrainingRow(dataclasses.replace(e.example, weight=e.example.weight * scale), rules) for e in taught]


def rule_rows(
    given: Sequence[tuple[Example, Policy]], own: Sequence[TrainingRow], share: float, seed: int
) -> list[TrainingRow]:
    """Rows that are judged by rules of their own, weighted so that they make up `share` of an epoch's draws.

    Most that come with unrelated rules beside are shown one of their rules alone, so that rows can share a policy: the
    one that is broken, or any that is kept. Of a rule the definition must be told; its name says nothing.
    """
    kept = [pair for pair in given if pair[0].weight > 0]
    if not kept or not share:
        return []
    scale = _weight(row.example for row in own) / _weight(example for example, _ in kept) * share / (1 - share)
    found = []
    for example, rules in kept:
        rng = random.Random(f"{seed}/{example.id}/rules")
        if rng.random() >= BESIDE:
            code = min(example.categories) if example.categories else rng.choice(rules.codes)
            rules = _alone(next(category for category in rules.categories if category.code == code))
            if example.label == "unsafe":
                example = dataclasses.replace(example, categories=frozenset(rules.codes))
        found.append(TrainingRow(dataclasses.replace(example, weight=example.weight * scale), rules, "short"))
    return found


def check_codes(examples: Sequence[Example], rules: Policy, data: Path) -> None:
    """DataError if categories of the rows are unknown to the policy; tells which policy the data was built for."""
    strange: dict[str, int] = {}
    for example in examples:
        for code in (example.categories or frozenset()) - set(rules.codes):
            strange[code] = strange.get(code, 0) + 1
    if strange:
        told = ", ".join(f"{code[:48]} ({count} rows)" for code, count in sorted(strange.items()))
        manifest = data / "manifest.json"
        built = json.loads(manifest.read_text(encoding="utf-8")).get("policy") if manifest.is_file() else None
        made_for = f"the data was built for policy {built['id']!r} (digest {built['digest'][:12]}); " if built else ""
        raise DataError(
            f"{data}: rows violate categories that policy {rules.id!r} (digest {rules.digest[:12]}) lacks: {told}; "
            f"{made_for}give the policy of the data, build it for this one, or set foreign=leave_out to train without "
            "those rows"
        )


def count_windowed(taught: Sequence[TrainingRow], prompt: Prompt) -> int:
    """How many rows are too long for one window: each draw of such a row shows one of several."""
    count = 0
    for row in taught:
        messages = row.example.conversation.messages
        most = len(prompt.prefix_ids(row.policy)) + sum(len(m.content.encode()) + _MARKS for m in messages) + _MARKS
        # Our own prompt then fits, as no token is less than a byte; a released guard's may hold anything.
        if not isinstance(prompt, CausalPrompt) or most > prompt.max_tokens:
            count += len(prompt.tokenize(row.example.conversation, row.policy).windows) > 1
    return count


def answer(prompt: Prompt, example: Example, policy: Policy) -> Ids:
    """The verdict to learn, with its end. Of an unsafe example whose categories nobody knows, the word alone."""
    if example.label == "safe":
        return prompt.grammar(policy).ids((), safe=True)
    if example.categories and example.undecided.isdisjoint(policy.codes):
        return prompt.grammar(policy).ids(example.categories)
    return prompt.unsafe


def _weight(examples: Iterable[Example]) -> float:
    return sum(example.weight for example in examples)


@cache
def _alone(rule: Category) -> Policy:
    return Policy("rules", "1", "Rules", (dataclasses.replace(rule, code="R1"),))
