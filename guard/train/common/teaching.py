"""The usable rows of a split: positive weight, and a label that is decided under the policy."""

from __future__ import annotations

from collections.abc import Sequence

from guard.conversation import Example
from guard.errors import DataError
from guard.policy import Policy
from guard.train.augment.policy_views import decides


def teaching(examples: Sequence[Example], rules: Policy, where: str) -> list[Example]:
    """The examples that are usable under the policy. DataError if there are none, or if all have one label."""
    kept = [example for example in examples if example.weight > 0 and decides(example, rules)]
    labels = {example.label for example in kept}
    if len(labels) < 2:
        problem = f"only {labels.pop()} rows" if labels else "no row"
        raise DataError(
            f"{where}: {problem} to train on under policy {rules.id!r} (of {len(examples)} rows); training needs safe "
            "and unsafe rows"
        )
    return kept
