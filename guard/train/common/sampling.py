"""Sampling: each epoch shows every example once, as one window of its text, augmented anew."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from guard.conversation import Conversation, Example, Target
from guard.data.ingest.refusal import refuses
from guard.engines.base import padded_batches
from guard.policy import Policy
from guard.prompts.window import TokenizedConversation, Window
from guard.train.augment.augmentation import Augmentation, augment
from guard.train.augment.padding import Pool
from guard.train.common.labels import Item, Row, item_of

Drawn = TypeVar("Drawn", bound="Sample")
_CHUNK = 4096  # samples among which batches of near lengths are made


class Renderer(Protocol):
    """The renderer of either kind of guard, which cuts a conversation into windows."""

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of an example, with its label."""

    item: Item
    row: Row


def samples(
    examples: Sequence[Example],
    renderer: Renderer,
    rules: Policy,
    settings: Augmentation,
    seed: int,
    epoch: int,
    pool: Pool,
) -> list[Sample]:
    """The epoch's sample of every example, in order, without those whose label is undecided under the policy."""
    drawn = []
    for example in examples:
        shown = augment(example, rules, settings, seed, epoch, pool)
        refusal = _refusal(example, shown.example)
        item = item_of(shown.example, rules, example.weight, refusal)
        if item is None:
            continue
        windows = renderer.tokenize(shown.example.conversation, rules).windows
        rng = random.Random(f"{seed}/{epoch}/{example.id}")
        if item.unsafe:
            windows = holding(windows, shown.span)
        elif refusal is not None:
            windows = windows[:1]  # where a refusal is looked for
        window = rng.choice(windows)
        drawn.append(Sample(item, (window.ids, window.segments)))
    return drawn


def holding(windows: Sequence[Window], span: tuple[int, int]) -> tuple[Window, ...]:
    """The windows that contain the unsafe span: those with all of it; else the first and the last that touch it, where
    harm is likeliest."""
    start, end = span
    whole = tuple(window for window in windows if window.start <= start and end <= window.end)
    if whole:
        return whole
    touched = tuple(window for window in windows if window.start < end and start < window.end) or tuple(windows)
    return touched[0], touched[-1]


def _refusal(example: Example, shown: Example) -> bool | None:
    """Whether a response refuses; None where augmentation changed its text, which may hide the refusal."""
    if shown.conversation.target is not Target.RESPONSE:
        return None
    same_speaker = example.conversation.target is Target.RESPONSE
    if same_speaker and shown.conversation.judged != example.conversation.judged:
        return None
    return refuses(shown.conversation.judged.content)


def batches(drawn: Sequence[Drawn], tokens: int, rows: int, rng: random.Random) -> Iterator[list[Drawn]]:
    """Batches of similar lengths within shuffled chunks, so that padding is small and the order random."""
    order = list(drawn)
    rng.shuffle(order)
    cut: list[list[Drawn]] = []
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        packed = padded_batches([len(sample.row[0]) for sample in chunk], tokens, rows)
        cut += [[chunk[index] for index in batch] for batch in packed]
    rng.shuffle(cut)
    yield from cut
