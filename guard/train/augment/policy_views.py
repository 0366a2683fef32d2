"""Views of a policy for one training example: another order, other codes, fewer categories, less detail.

A view must never make a label wrong. Violated categories may be removed only if the example is known to violate nothing
else; undecided categories must be removed; an example of unknown category keeps the whole policy. Categories are given
and returned as codes in the order of the policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from guard.conversation import Example
from guard.policy import Category, Detail, Policy

Codes = tuple[str, ...]


def decides(example: Example, policy: Policy) -> bool:
    """Whether the example's label is defined under the policy.

    That of an unsafe example that violates only categories outside the policy is not, because categories of policies
    overlap; nor is that of a safe example whose categories are all undecided.
    """
    codes = frozenset(policy.codes)
    if example.label == "unsafe":
        return not example.categories or not codes.isdisjoint(example.categories)
    return not codes <= example.undecided


def decided(codes: Sequence[str], violated: Collection[str], undecided: Collection[str]) -> Codes:
    """The codes known to be violated or not violated.

    A violated code that refines another (hate/threatening) leaves the broader one undecided unless it is named too.
    """
    broader = {code[:cut] for code in violated for cut, letter in enumerate(code) if letter == "/"}
    return tuple(code for code in codes if code in violated or (code not in undecided and code not in broader))


def renumbered(codes: Sequence[str], prefix: str) -> dict[str, str]:
    """New codes by old ones: the prefix and 1, 2, 3 … in the given order."""
    return {code: f"{prefix}{number}" for number, code in enumerate(codes, 1)}


def view(policy: Policy, names: Mapping[str, str], detail: Detail = "full") -> Policy:
    """The policy with the categories of `names` (old code → new code), in that order.

    Only the detail `full` keeps includes and excludes. A category cannot lack its definition: with the detail `names`,
    the renderer omits it.
    """
    by_code = {category.code: category for category in policy.categories}
    categories = tuple(_category(by_code[old], new, detail == "full") for old, new in names.items())
    return policy if categories == policy.categories else dataclasses.replace(policy, categories=categories)


@lru_cache(maxsize=8192)  # validating a new category costs more than everything else here
def _category(category: Category, code: str, full: bool) -> Category:
    if full:
        return category if code == category.code else dataclasses.replace(category, code=code)
    return dataclasses.replace(category, code=code, includes=(), excludes=())


def relabelled(example: Example, names: Mapping[str, str]) -> Example:
    """The example under the view `names`: its codes are renamed, and it becomes safe if no known violation remains.

    An example of unknown category keeps its label.
    """
    violated = example.categories
    kept = None if violated is None else frozenset(names[code] for code in violated if code in names)
    undecided = frozenset(names[code] for code in example.undecided if code in names)
    label = "safe" if violated and not kept else example.label
    if (label, kept, undecided) == (example.label, violated, example.undecided):
        return example
    return dataclasses.replace(example, label=label, categories=kept, undecided=undecided)
