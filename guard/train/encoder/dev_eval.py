"""Dev evaluation while an encoder trains: ranking metrics, each row scored by its worst window as in serving."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from guard.conversation import Example
from guard.engines.base import padded_batches
from guard.metrics.classification import Floats, auprc, auroc, best_f1
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput, category_text
from guard.prompts.window import Score, combined
from guard.train.common.labels import Row, item_of
from guard.train.encoder import model as encoder
from guard.views.tokenize import tokenize

_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class DevRow:
    """A held-out example as all of its windows."""

    unsafe: bool
    windows: tuple[Row, ...]


def dev_rows(examples: Sequence[Example], reader: EncoderInput, rules: Policy) -> list[DevRow]:
    """The windows of every example, as in serving, without examples whose label is undecided under the policy."""
    return [
        DevRow(example.label == "unsafe", tuple((w.ids, w.segments) for w in windows))
        for example in examples
        if item_of(example, rules)
        for windows in [tokenize(reader, example.conversation, rules).windows]
    ]


def category_rows(reader: EncoderInput, texts: Sequence[str]) -> list[Row]:
    rows = [reader.category_ids(text) for text in texts]
    return [(ids, (0,) * len(ids)) for ids in rows]


def worst_windows(
    model: encoder.ConditionedEncoder,
    items: Sequence[DevRow],
    categories: Tensor,
    pad: int,
    autocast: contextlib.AbstractContextManager[None],
) -> Floats:
    """[items]: the log-odds of the worst window of each, under the categories of these vectors."""
    rows = [row for item in items for row in item.windows]
    odds = np.empty(len(rows))
    for batch in padded_batches([len(row[0]) for row in rows], _BATCH_TOKENS):
        text = encoder.padded([rows[i] for i in batch], pad)
        with torch.no_grad(), autocast:
            logits = model(**text, categories=categories)[1]
        odds[batch] = torch.logsumexp(logits.float(), 1).numpy()
    scores = map(Score, odds.tolist())
    return np.array([combined(list(islice(scores, len(item.windows)))).unsafe for item in items])


def evaluate(
    model: encoder.ConditionedEncoder,
    items: Sequence[DevRow],
    reader: EncoderInput,
    rules: Policy,
    autocast: contextlib.AbstractContextManager[None],
) -> dict[str, float | None]:
    """Ranking metrics on held-out rows. The model is left in training mode."""
    model.eval()
    words = [category_text(category) for category in rules.categories]
    with torch.no_grad(), autocast:
        vectors = model.embed(**encoder.padded(category_rows(reader, words), reader.pad))
    worst = worst_windows(model, items, vectors, reader.pad, autocast)
    model.train()
    labels = np.array([item.unsafe for item in items])
    best = best_f1(labels, worst)
    return {"auprc": auprc(labels, worst), "auroc": auroc(labels, worst), "best_f1": best.value if best else None}
