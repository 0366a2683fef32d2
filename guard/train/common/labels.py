"""What a policy-conditioned guard learns from: labels under the part of a policy that is in force, and their loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guard.conversation import Example
from guard.data.dataset.relabel import relabel
from guard.policy import Policy
from guard.policy.crosswalk import Crosswalk

Row = tuple[tuple[int, ...], tuple[int, ...]]  # token ids, segment ids


@dataclass(frozen=True, slots=True)
class Item:
    """What is known of an example's label.

    `categories` are the codes that it violates, None where unknown; of `undecided` codes nothing is known though
    others are. `refusal` says whether it is a response that refuses, None where that is not known or not asked.
    """

    unsafe: bool
    categories: frozenset[str] | None
    weight: float = 1.0
    undecided: frozenset[str] = frozenset()
    refusal: bool | None = None


def item_of(example: Example, policy: Policy, weight: float = 1.0, refusal: bool | None = None) -> Item | None:
    """The label under the policy; None for what violates only categories that the policy lacks: it is neither safe nor
    unsafe there."""
    codes = frozenset(policy.codes)
    known = None if example.categories is None else example.categories & codes
    unsafe = example.label == "unsafe"
    if unsafe and known is not None and not known:
        return None
    return Item(unsafe, known, weight, example.undecided & codes, refusal)


def relabelled(crosswalk: Crosswalk, item: Item) -> Item:
    """The item under the crosswalk's policy; it weighs nothing where its label says nothing there."""
    if item.unsafe and item.categories is None:
        return dataclasses.replace(item, weight=0.0)  # nobody knows what it violates, so nor whether it does there
    said = relabel(
        crosswalk, "unsafe" if item.unsafe else "safe", sorted(item.categories or ()), sorted(item.undecided)
    )
    if said.label is None:
        return dataclasses.replace(item, weight=0.0)
    codes = None if said.categories is None else frozenset(said.categories)
    return dataclasses.replace(
        item, unsafe=said.label == "unsafe", categories=codes, undecided=frozenset(said.undecided)
    )


def targets(items: Sequence[Item], kept: Sequence[str], whole: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """unsafe [rows], its weight [rows], categories [rows, kept], their weights, where the codes `kept` are in force.

    whole: whether they are the whole policy.
    """
    unsafe, weight = torch.zeros(len(items)), torch.zeros(len(items))
    categories, known = torch.zeros(len(items), len(kept)), torch.zeros(len(items), len(kept))
    for row, item in enumerate(items):
        if item.unsafe and item.categories is None:
            # Violates something, nobody says what: only the whole policy is certain to be violated.
            unsafe[row], weight[row] = 1.0, item.weight * whole
            continue
        found = item.categories if item.unsafe and item.categories else frozenset()
        categories[row] = torch.tensor([float(code in found) for code in kept])
        violated = bool(categories[row].any())
        unsafe[row], weight[row], known[row] = float(violated), item.weight, item.weight
        if open_ := [place for place, code in enumerate(kept) if code in item.undecided - found]:
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
    """Mean binary cross-entropy of the responses of which it is known whether they refuse; 0 without any."""
    known = [row for row, item in enumerate(items) if item.refusal is not None]
    asked = torch.tensor([float(bool(items[row].refusal)) for row in known])
    if not known:
        return logits.sum() * 0.0
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], asked)
