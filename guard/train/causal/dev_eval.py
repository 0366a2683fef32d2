"""Held-out rows while a causal guard trains, by the scoring that serving uses: the verdict's logits, nothing generated.

A row's score is that of its worst window: log p(unsafe) - log p(safe), both by the word's first token, read where the
verdict begins.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from guard.conversation import Example
from guard.errors import DataError
from guard.metrics.classification import Floats, auprc, auroc, best_f1
from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids, Score, combined
from guard.train.augment.policy_views import decides
from guard.views.tokenize import tokenize


@dataclass(frozen=True, slots=True, repr=False)
class DevRow:
    """A held-out row as the whole prompts of all its windows."""

    unsafe: bool
    prompts: tuple[Ids, ...]


def dev_sample(
    examples: Sequence[Example], prompt: Prompt, rules: Policy, rows: int, seed: int, where: str
) -> list[DevRow]:
    """At most `rows` of the examples whose label says something under the policy; the same ones for the same seed.

    DataError if all of them have one label, because nothing can be ranked then.
    """
    decided = [example for example in examples if decides(example, rules)]
    if len({example.label for example in decided}) < 2:
        raise DataError(
            f"{where}: its {len(decided)} dev rows are not of both labels, so that no AUPRC can be had; add dev rows, "
            "or set dev_rows=0 to train without them (the last weights are kept then)"
        )
    draw = random.Random(seed)
    drawn = draw.sample(decided, min(rows, len(decided)))
    labels = {example.label for example in drawn}
    if len(labels) < 2:
        drawn[-1] = next(example for example in decided if example.label not in labels)
    prefix = prompt.prefix_ids(rules)
    return [
        DevRow(example.label == "unsafe", tuple((*prefix, *window.ids) for window in windows))
        for example in drawn
        for windows in [tokenize(prompt, example.conversation, rules).windows]
    ]


@dataclass(frozen=True, slots=True)
class VerdictScores:
    """Log-odds of prompts, and the label mass p(safe) + p(unsafe) of each. Both [prompts]."""

    odds: Floats
    mass: Floats


def score_verdicts(model: Any, prompts: Sequence[Ids], prompt: Prompt, device: Any) -> VerdictScores:
    """The reading of prompts that go through the model as one batch.

    `model` is called as a Hugging Face causal LM, without gradients; the caller sets evaluation mode and precision.
    """
    width = max(map(len, prompts))
    # Padding stands on the left, so that the last position is the verdict's for all.
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in prompts], device=device)
    there = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
    with torch.no_grad():
        found = model(
            input_ids=ids,
            attention_mask=there,
            position_ids=(there.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        )
    words = torch.tensor([prompt.safe[0], prompt.unsafe[0]], device=device)
    safe, unsafe = torch.log_softmax(found.logits[:, -1].float(), -1)[:, words].double().cpu().unbind(1)
    return VerdictScores((unsafe - safe).numpy(), (safe.exp() + unsafe.exp()).numpy())


def ranking(judged: Sequence[DevRow], reading: VerdictScores) -> dict[str, float]:
    """AUPRC, AUROC and best F1 of the rows by their worst windows, and the mean label mass of all windows.

    `reading` is that of all windows of all rows, in order. Rows are of both labels.
    """
    scores = map(Score, reading.odds.tolist())
    worst = np.array([combined(list(islice(scores, len(row.prompts)))).unsafe for row in judged])
    labels = np.array([row.unsafe for row in judged])
    best = best_f1(labels, worst)
    found = {"auprc": auprc(labels, worst), "auroc": auroc(labels, worst), "best_f1": best.value if best else None}
    return {
        **{name: value for name, value in found.items() if value is not None},
        "label_mass": float(reading.mass.mean()),
    }
