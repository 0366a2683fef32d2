"""Rows that are labelled under other policies: the same harms in other words, so that a guard reads the words."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from guard.data.dataset.relabel import relabel
from guard.policy import Policy
from guard.policy.route import Route
from guard.train.augment.policy_views import decides
from guard.train.causal.rows import TrainingRow


@dataclass(frozen=True, slots=True)
class OtherPolicies:
    """Routes from a policy to others, under which a share of its draws is labelled."""

    policy: Policy | None = None
    routes: tuple[Route, ...] = ()
    share: float = 0.0

    def drawn(self, row: TrainingRow, rng: random.Random) -> TrainingRow:
        """The row under one of the policies, or as it is: also where its label says nothing there."""
        if not self.routes or row.policy != self.policy or rng.random() >= self.share:
            return row
        route, example = rng.choice(self.routes), row.example
        known = example.label == "safe" or bool(example.categories)
        if not known or not (example.categories or frozenset()).issubset(row.policy.codes):
            return row
        said = relabel(route.crosswalk, example.label, sorted(example.categories or ()), sorted(example.undecided))
        if said.label is None:
            return row
        codes = None if said.categories is None else frozenset(said.categories)
        undecided = frozenset(said.undecided)
        moved = dataclasses.replace(example, label=said.label, categories=codes, undecided=undecided)
        return TrainingRow(moved, route.policy) if decides(moved, route.policy) else row
