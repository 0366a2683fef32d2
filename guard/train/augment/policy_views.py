"""Views of a policy for one training example: other order and codes, fewer categories, shorter words.

A view must never make a label wrong. What a row violates may leave the view only if the row is known to violate
nothing else; what a row says nothing about must leave it; a row of unknown category keeps the whole policy.
Categories are given and returned as codes in the order of the policy.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from guard.conversation import Example
from guard.policy import Category, Detail, Policy

Codes = tuple[str, ...]


def decides(example: Example, policy: Policy) -> bool:
    """Whether the example's label says anything under the policy.

    An unsafe row that violates only what the policy lacks does not, because two policies' categories overlap; nor does
    a safe row about whose categories nothing was decided.
    """
    codes = frozenset(policy.codes)
    if example.label == "unsafe":
        return not example.categories or not codes.isdisjoint(example.categories)
    return not codes <= example.undecided


def decided(codes: Sequence[str], violated: Collection[str], undecided: Collection[str]) -> Codes:
    """The codes about which something is known: violated, or not.

    A violated code that narrows another (hate/threatening) leaves the broader one undecided where it is not named.
    """
    broader = {code[:cut] for code in violated for cut, letter in enumerate(code) if letter == "/"}
    return tuple(code for code in codes if code in violated or (code not in undecided and code not in broader))


def thinned(codes: Sequence[str], violated: Collection[str], rng: random.Random) -> Codes:
    """The codes less a random part (at least one, if that can be) of those that are not violated; never none at all."""
    others = [code for code in codes if code not in violated]
    most = len(others) - (len(others) == len(codes))
    if not most:
        return tuple(codes)
    gone = set(rng.sample(others, rng.randint(1, most)))
    return tuple(code for code in codes if code not in gone)


def narrowed(codes: Sequence[str], violated: Collection[str], rng: random.Random) -> Codes:
    """The codes less a random part of the violated ones, at least one of which stays: the row is still unsafe."""
    own = [code for code in codes if code in violated]
    if len(own) < 2:
        return tuple(codes)
    gone = set(rng.sample(own, rng.randint(1, len(own) - 1)))
    return tuple(code for code in codes if code not in gone)


def flipped(codes: Sequence[str], violated: Collection[str]) -> Codes:
    """The codes less all violated ones, under which the row is safe; all codes if nothing else would remain."""
    return tuple(code for code in codes if code not in violated) or tuple(codes)


def renumbered(codes: Sequence[str], prefix: str) -> dict[str, str]:
    """New codes by old ones: the prefix and 1, 2, 3 … in the order given."""
    return {code: f"{prefix}{number}" for number, code in enumerate(codes, 1)}


def view(policy: Policy, names: Mapping[str, str], detail: Detail = "full") -> Policy:
    """The policy with the categories of `names` (old code → new code), in its order.

    Only `full` keeps includes and excludes. A definition cannot be left out of a category: where `names` alone are to
    be read, that is for the renderer to do.
    """
    known = {category.code: category for category in policy.categories}
    made = tuple(_category(known[old], new, detail == "full") for old, new in names.items())
    return policy if made == policy.categories else dataclasses.replace(policy, categories=made)


@lru_cache(maxsize=8192)  # checking a category anew costs more than everything else here
def _category(category: Category, code: str, full: bool) -> Category:
    if full:
        return category if code == category.code else dataclasses.replace(category, code=code)
    return dataclasses.replace(category, code=code, includes=(), excludes=())


def relabelled(example: Example, names: Mapping[str, str]) -> Example:
    """The example under the view of `names`: codes renamed, and safe if it is known which it violates and none is left.

    A row of unknown category keeps its label.
    """
    violated = example.categories
    kept = None if violated is None else frozenset(names[code] for code in violated if code in names)
    undecided = frozenset(names[code] for code in example.undecided if code in names)
    label = "safe" if violated and not kept else example.label
    if (label, kept, undecided) == (example.label, violated, example.undecided):
        return example
    return dataclasses.replace(example, label=label, categories=kept, undecided=undecided)
