"""The loss of labels under the part of a policy that is active."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guard.train.common.labels import Item


def targets(items: Sequence[Item], kept: Sequence[str], whole: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """unsafe [rows], its weight [rows], categories [rows, kept], their weights, where the codes `kept` are active.

    whole: whether they are the whole policy.
    """
    unsafe, weight = torch.zeros(len(items)), torch.zeros(len(items))
    categories, known = torch.zeros(len(items), len(kept)), torch.zeros(len(items), len(kept))
    for row, item in enumerate(items):
        if item.unsafe and item.categories is None:
            # Unsafe with unknown categories: only the whole policy is certainly violated.
            unsafe[row], weight[row] = 1.0, item.weight * whole
            continue
        violated_codes = item.categories if item.unsafe and item.categories else frozenset()
        categories[row] = torch.tensor([float(code in violated_codes) for code in kept])
        violated = bool(categories[row].any())
        unsafe[row], weight[row], known[row] = float(violated), item.weight, item.weight
        if open_ := [column for column, code in enumerate(kept) if code in item.undecided - violated_codes]:
            known[row, open_] = 0.0
            weight[row] *= violated
    return unsafe, weight, categories, known


def loss_of(
    logits: Tensor, items: Sequence[Item], kept: Sequence[str], whole: bool, category_weight: float, smooth: float
) -> Tensor:
    """Binary cross-entropy of the OR over the policy, plus that of each category where it is known."""
    unsafe, weight, categories, known = targets(items, kept, whole)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    either = bce(torch.logsumexp(logits, 1), unsafe * (1 - 2 * smooth) + smooth, reduction="none")
    each = bce(logits, categories, reduction="none")
    scale = weight.sum().clamp(min=1.0)
    return (either * weight).sum() / scale + category_weight * (each * known).sum() / scale


def refusal_loss(logits: Tensor, items: Sequence[Item]) -> Tensor:
    """Mean binary cross-entropy over the responses with a known refusal label; 0 without any."""
    known = [row for row, item in enumerate(items) if item.refusal is not None]
    refusals = torch.tensor([float(bool(items[row].refusal)) for row in known])
    if not known:
        return logits.sum() * 0.0
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], refusals)
