"""What of a split can teach anything: rows of some weight that say something under the policy, of both labels."""

from __future__ import annotations

from collections.abc import Sequence

from guard.conversation import Example
from guard.errors import DataError
from guard.policy import Policy
from guard.train.augment.policy_views import decides


def teaching(examples: Sequence[Example], rules: Policy, where: str) -> list[Example]:
    """Those of the examples that teach something under the policy. DataError if none does, or if all have one label."""
    kept = [example for example in examples if example.weight > 0 and decides(example, rules)]
    labels = {example.label for example in kept}
    if len(labels) < 2:
        found = f"only {labels.pop()} rows" if labels else "no row"
        raise DataError(
            f"{where}: {found} to train on under policy {rules.id!r} ({len(examples)} rows read); a guard needs safe "
            "and unsafe ones"
        )
    return kept
