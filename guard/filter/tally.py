"""Counts of rows: how many by result, and how they are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

BINS = 20  # of p_unsafe


@dataclass(frozen=True, slots=True)
class Tally:
    """read = kept + dropped + quarantined. Of the spreads, keys with `flagged` count the UNSAFE rows alone."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    quarantined: int = 0
    judged: int = 0  # parts of rows
    scored: int = 0  # texts that went to the guard, which depends on the cache
    columns: Mapping[str, int] = field(default_factory=dict)  # rows with a value, of the columns that were named
    outcomes: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)  # of the quarantined rows
    groups: Mapping[str, int] = field(default_factory=dict)  # by file, or by the values of a column
    groups_flagged: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)  # of the judged message, where they can be identified
    languages_flagged: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, int] = field(default_factory=dict)  # by bin of p_unsafe, 0 to BINS - 1
    lengths: Mapping[str, int] = field(default_factory=dict)  # by number of binary digits of the characters
    lengths_flagged: Mapping[str, int] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What every run of the job counts alike."""
        return {name: value for name, value in asdict(self).items() if name != "scored"}

    def __add__(self, other: Tally) -> Tally:
        sums: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            a, b = getattr(self, name), getattr(other, name)
            sums[name] = a + b if isinstance(a, int) else dict(Counter(a) + Counter(b))
        return Tally(**sums)
