"""The texts of a robustness run: unsafe ones to attack, and safe ones that tell what attacks and thresholds cost."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guard.conversation import Conversation, Message, Target
from guard.data.ingest import source_rows
from guard.data.sources import description
from guard.errors import DataError
from guard.evaluate.suite import Case, Suite
from guard.metrics.classification import Bools

SEEDS = "seed_prompts"


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """Texts of a set. `left_out`: rows of the set that were longer than allowed."""

    suite: Suite
    unsafe: tuple[Conversation, ...]
    safe: tuple[Conversation, ...]
    left_out: int


def seeds() -> Suite:
    """The hand-written prompts that ship with the package, as a set. The default guard was trained on such texts."""
    source = description.load(SEEDS)
    cases = tuple(
        Case(Conversation.of(row.prompt), row.label, {})
        for row in source_rows.rows(source, Path(), description.load_crosswalk(source))
        if row.label != "unlabelled"
    )
    texts = "\n".join(f"{case.label} {case.conversation.judged.content}" for case in cases)
    digest = hashlib.sha256(texts.encode()).hexdigest()
    return Suite("seeds", source.title, source.upstream, source.licence, digest, cases)


def draw(suite: Suite, rows: int, longest: int, seed: int) -> Sample:
    """At most `rows` unsafe and as many safe texts, by chance; the same for the same seed. Repeats count once.

    Texts of more than `longest` characters are left out. DataError if there is no unsafe text, or no safe one of the
    same kind (prompt or response) to fix its threshold.
    """
    fitting = [case for case in suite.cases if len(case.conversation.judged.content) <= longest]
    drawn = {}
    for label in ("unsafe", "safe"):
        texts = list(dict.fromkeys(case.conversation for case in fitting if case.label == label))
        chosen = random.Random(f"{seed} {label}").sample(range(len(texts)), min(rows, len(texts)))
        drawn[label] = tuple(texts[index] for index in sorted(chosen))
    if not drawn["unsafe"]:
        raise DataError(f"{suite.name}: has no unsafe text of at most {longest} characters; there is nothing to attack")
    for target in Target:
        if of_target(drawn["unsafe"], target).any() and not of_target(drawn["safe"], target).any():
            raise DataError(
                f"{suite.name}: the sample has unsafe {target.value}s but no safe ones, so that no threshold can be "
                "fixed for them; add safe rows of that kind or raise --rows"
            )
    return Sample(suite, drawn["unsafe"], drawn["safe"], len(suite.cases) - len(fitting))


def attacked(conversation: Conversation, text: str) -> Conversation:
    """The conversation with another text as its judged message."""
    return Conversation((*conversation.context, Message(conversation.judged.role, text)))


def of_target(conversations: Sequence[Conversation], target: Target) -> Bools:
    """Which of the conversations have that target."""
    return np.array([conversation.target is target for conversation in conversations], dtype=bool)
