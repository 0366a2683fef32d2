"""A training step of the encoder: a batch of samples against the texts of the active categories."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

from torch import Tensor

from guard.policy import Category
from guard.prompts.encoder import EncoderInput, category_text
from guard.train.common.sampling import Sample
from guard.train.encoder import model as encoder
from guard.train.encoder.dev_eval import category_rows


def in_force(categories: Sequence[Category], share: float, rng: random.Random) -> list[Category]:
    """The categories, or with probability `share` a random part of them, a third at least, in their order."""
    chosen, total = list(categories), len(categories)
    if total > 1 and rng.random() < share:
        chosen = sorted(rng.sample(chosen, rng.randint(max(1, total // 3), total - 1)), key=chosen.index)
    return chosen


def paraphrases(categories: Sequence[Category], rng: random.Random) -> list[str]:
    """The categories by name alone, by definition, or in full: users write all three."""
    draw = rng.random()
    if draw < 0.2:
        return [category.name for category in categories]
    if draw < 0.8:
        return [f"{category.name}: {category.definition}" for category in categories]
    return [category_text(category) for category in categories]


def logits_of(
    model: encoder.ConditionedEncoder,
    reader: EncoderInput,
    batch: Sequence[Sample],
    words: Sequence[str],
    autocast: contextlib.AbstractContextManager[None],
) -> tuple[Tensor, Tensor]:
    """[rows, categories], the log-odds of the categories of these words, and [rows], those that a text refuses. The
    small heads are computed in full precision."""
    text = encoder.padded([sample.row for sample in batch], reader.pad)
    with autocast:
        vectors = model.embed(**encoder.padded(category_rows(reader, words), reader.pad))
        means, states = model.encode(**text)
    logits = model.head(model.dropout(means), states, text["attention_mask"], model.dropout(vectors))
    return logits, model.refusal(means).squeeze(-1)
