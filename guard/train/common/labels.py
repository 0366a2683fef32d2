"""What a policy-conditioned guard learns from: the label of an example under a policy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from guard.conversation import Example
from guard.data.dataset.relabel import relabel
from guard.policy import Policy
from guard.policy.crosswalk import Crosswalk

Row = tuple[tuple[int, ...], tuple[int, ...]]  # token ids, segment ids


@dataclass(frozen=True, slots=True)
class Item:
    """An example's label as far as it is known.

    `categories` are the codes that it violates, None where unknown; `undecided` codes are unknown though others are
    known. `refusal` says whether it is a response that refuses, None where unknown or not applicable.
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
    """The item under the crosswalk's policy; its weight is 0 where its label cannot be mapped."""
    if item.unsafe and item.categories is None:
        return dataclasses.replace(item, weight=0.0)  # unknown categories may lie outside the other policy
    result = relabel(
        crosswalk, "unsafe" if item.unsafe else "safe", sorted(item.categories or ()), sorted(item.undecided)
    )
    if result.label is None:
        return dataclasses.replace(item, weight=0.0)
    codes = None if result.categories is None else frozenset(result.categories)
    return dataclasses.replace(
        item, unsafe=result.label == "unsafe", categories=codes, undecided=frozenset(result.undecided)
    )
