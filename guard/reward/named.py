"""A reward model by the name that a user gives: a folder, or one that needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.reward.scorer import Scorer


def open_named(name: str, base: Path | None) -> Scorer:
    """The scorer of a name: one that needs no training, or a folder. A folder that is called like one of the former is
    given as ./NAME."""
    kind, _, where = name.partition(":")
    if kind == "prompted" and where:
        from guard.reward.open import prompted

        return prompted(where)
    if kind == "guard":
        from guard.reward.baselines import guard_scorer

        return guard_scorer(where or None)
    if name == "length":
        from guard.reward.baselines import length_scorer

        return length_scorer()
    if name == "fake":
        from guard.reward.fake import fake_scorer

        return fake_scorer()
    if Path(name).is_dir():
        from guard.reward.open import open_scorer

        return open_scorer(name, base)
    raise ConfigError(f"no reward model {name[:80]!r}: must be a folder, prompted:BASE, guard, guard:BUNDLE or length")
