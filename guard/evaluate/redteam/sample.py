"""The texts of an attack run: unsafe ones to attack, and safe ones that show the cost of attacks and thresholds."""

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
from guard.evaluate.redteam.packaging import TURN
from guard.evaluate.suite import Case, Suite
from guard.metrics.classification import Bools

SEEDS = "seed_prompts"
REPLY = "Okay, go on."


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """Texts of a set. `left_out`: the number of rows that are longer than allowed."""

    suite: Suite
    unsafe: tuple[Conversation, ...]
    safe: tuple[Conversation, ...]
    left_out: int


def seed_suite() -> Suite:
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


def draw_sample(suite: Suite, rows: int, max_characters: int, seed: int) -> Sample:
    """A random sample of at most `rows` unsafe and as many safe texts, without repeats; reproducible by its seed.

    Texts of more than `max_characters` are left out. DataError if there is no unsafe text, or no safe text of the same
    target (prompt or response) to fix the threshold on.
    """
    fitting = [case for case in suite.cases if len(case.conversation.judged.content) <= max_characters]
    sample = {}
    for label in ("unsafe", "safe"):
        texts = list(dict.fromkeys(case.conversation for case in fitting if case.label == label))
        indices = random.Random(f"{seed} {label}").sample(range(len(texts)), min(rows, len(texts)))
        sample[label] = tuple(texts[index] for index in sorted(indices))
    if not sample["unsafe"]:
        raise DataError(
            f"{suite.name}: has no unsafe text of at most {max_characters} characters; there is nothing to attack"
        )
    for target in Target:
        if of_target(sample["unsafe"], target).any() and not of_target(sample["safe"], target).any():
            raise DataError(
                f"{suite.name}: the sample has unsafe {target.value}s but no safe ones, so that no threshold can be "
                "fixed for them; add safe rows of that kind or raise --rows"
            )
    return Sample(suite, sample["unsafe"], sample["safe"], len(suite.cases) - len(fitting))


def with_judged_text(conversation: Conversation, text: str) -> Conversation:
    """The conversation with another text as its judged message."""
    return Conversation((*conversation.context, Message(conversation.judged.role, text)))


def with_turns(conversation: Conversation, text: str) -> Conversation:
    """The conversation with several messages of one speaker in place of its judged one, and brief replies between."""
    speaker, context = conversation.judged.role, [*conversation.context]
    *earlier, last = text.split(TURN)
    for turn in earlier:
        context += [Message(speaker, turn), Message("user" if speaker == "assistant" else "assistant", REPLY)]
    return Conversation((*context, Message(speaker, last)))


def of_target(conversations: Sequence[Conversation], target: Target) -> Bools:
    """A mask of the conversations with that target."""
    return np.array([conversation.target is target for conversation in conversations], dtype=bool)
