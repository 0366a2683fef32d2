"""What passed without a verdict: counted, and logged by its kind, since nobody would notice otherwise."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Literal

log = logging.getLogger("guard.chat")
Side = Literal["prompt", "reply"]


class FailOpen:
    """`counts`: how often what a side of the conversation sent passed because of an error of this type."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Side, str]] = Counter()

    def passed(self, side: Side, problem: Exception) -> None:
        """Its text, which may repeat that of the conversation, is not logged."""
        kind = type(problem).__name__
        self.counts[side, kind] += 1
        log.warning("a %s passed without a verdict: %s", side, kind)
