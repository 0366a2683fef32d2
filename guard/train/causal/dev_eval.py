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
from torch import nn

from guard.conversation import Example
from guard.errors import DataError
from guard.metrics.classification import Floats, auprc, auroc, best_f1
from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.window import Ids, Score, combined
from guard.train.augment.policy_views import decides
from guard.train.causal.step import cached, padded_left
from guard.views.tokenize import tokenize


@dataclass(frozen=True, slots=True, repr=False)
class DevRow:
    """A held-out row: what follows the policy's prefix in all its windows. kind: prompt, response or text."""

    unsafe: bool
    windows: tuple[Ids, ...]
    kind: str = "prompt"


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
    return [
        DevRow(example.label == "unsafe", tuple(window.ids for window in windows), example.kind)
        for example in drawn
        for windows in [tokenize(prompt, example.conversation, rules).windows]
    ]


@dataclass(frozen=True, slots=True)
class VerdictScores:
    """Log-odds of prompts, and the label mass p(safe) + p(unsafe) of each. Both [prompts]."""

    odds: Floats
    mass: Floats


def score_verdicts(
    model: Any, prefix: Ids, windows: Sequence[Ids], prompt: Prompt, device: Any, share_prefix: bool = True
) -> VerdictScores:
    """The reading of windows after one prefix, as one batch.

    `model` is called as a Hugging Face causal LM, without gradients; the caller sets evaluation mode and precision.
    share_prefix: whether the prefix goes through it once, or once for each window.
    """
    with torch.no_grad():
        past = cached(model, torch.tensor([prefix], device=device), len(windows)) if share_prefix else None
        ids, mask = padded_left(windows if share_prefix else [(*prefix, *window) for window in windows], device)
        before = len(prefix) if share_prefix else 0
        found = model(
            input_ids=ids,
            attention_mask=nn.functional.pad(mask, (before, 0), value=1),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0) + before,
            past_key_values=past,
            use_cache=share_prefix,
            logits_to_keep=1,
        )
    words = torch.tensor([prompt.safe[0], prompt.unsafe[0]], device=device)
    safe, unsafe = torch.log_softmax(found.logits[:, -1].float(), -1)[:, words].double().cpu().unbind(1)
    return VerdictScores((unsafe - safe).numpy(), (safe.exp() + unsafe.exp()).numpy())


def ranking(judged: Sequence[DevRow], reading: VerdictScores) -> dict[str, float]:
    """AUPRC, AUROC and best F1 of the rows by their worst windows, and the mean label mass of all windows; the AUPRC of
    each kind of rows as well, where there are several.

    `reading` is that of all windows of all rows, in order. Rows are of both labels.
    """
    scores = map(Score, reading.odds.tolist())
    worst = np.array([combined(list(islice(scores, len(row.windows)))).unsafe for row in judged])
    labels, kinds = np.array([row.unsafe for row in judged]), np.array([row.kind for row in judged])
    best = best_f1(labels, worst)
    found = {"auprc": auprc(labels, worst), "auroc": auroc(labels, worst), "best_f1": best.value if best else None}
    if len(several := sorted(set(kinds.tolist()))) > 1:
        found |= {f"auprc_{kind}": auprc(labels[kinds == kind], worst[kinds == kind]) for kind in several}
    return {
        **{name: value for name, value in found.items() if value is not None},
        "label_mass": float(reading.mass.mean()),
    }
