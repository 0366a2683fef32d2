"""Train, dev and test splits by cluster, assigned by a seeded hash of its name: adding rows never moves others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from guard import schema
from guard.conversation import Split
from guard.schema import Share


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the clusters; they add up to 1."""

    __pydantic_config__ = schema.STRICT

    train: Share = 0.9
    dev: Share = 0.05
    test: Share = 0.05

    def __post_init__(self) -> None:
        total = self.train + self.dev + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, dev and test must add up to 1, not {total:g}")


def unit_hash(*parts: object) -> float:
    """A number in [0, 1), uniformly distributed, that depends on the parts only."""
    raw = hashlib.sha256("\x00".join(map(str, parts)).encode()).digest()
    return int.from_bytes(raw[:7], "big") / 2**56


def split_of(cluster: str, shares: Shares, seed: int) -> Split:
    """The split of a whole cluster."""
    position = unit_hash(seed, "split", cluster)
    if position < shares.test:
        return "test"
    return "dev" if position < shares.test + shares.dev else "train"
