"""Rows that share the words of their policy, and how many of them a step takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.prompts.window import Ids


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """Rows under one policy: the prefix that all share, and of each what follows it, up to the verdict and the verdict
    to learn."""

    prefix: Ids
    rows: tuple[tuple[Ids, Ids], ...]

    @property
    def tokens(self) -> int:
        """Without padding, the prefix counted once."""
        return len(self.prefix) + sum(len(asked) + len(verdict) for asked, verdict in self.rows)

    @property
    def width(self) -> int:
        """Tokens of its longest row."""
        return max(len(asked) + len(verdict) for asked, verdict in self.rows)


Batch = tuple[Group, ...]  # groups that a step sees together on one device


@dataclass(frozen=True, slots=True)
class Sizes:
    """The most rows of a batch and of a group, and the most tokens of either as a step computes them; a single row may
    have more.

    row: the most tokens of a row behind the prefix, the verdict not counted; a longer text is cut into more windows
    (None: as many as the prompt has). shared: whether a step computes the prefix of a group once, or for each row.
    """

    batch_rows: int
    group_rows: int
    tokens: int
    row: int | None = None
    shared: bool = True

    def cost(self, prefix: int, rows: int, width: int) -> int:
        """Tokens that a step computes of rows of one prefix, with padding."""
        return (1 if self.shared else rows) * prefix + rows * width


def together(units: Sequence[Batch], sizes: Sizes) -> list[Batch]:
    """The units in batches of no more than the most rows and tokens, each in the first that has room for it; none is
    taken apart."""
    made: list[list[Group]] = []
    room: list[tuple[int, int]] = []  # rows and tokens
    for unit in units:
        rows = sum(len(group.rows) for group in unit)
        tokens = sum(sizes.cost(len(group.prefix), len(group.rows), group.width) for group in unit)
        at = next((n for n, (r, t) in enumerate(room) if rows <= r and tokens <= t), None)
        if at is None:
            at = len(made)
            made.append([])
            room.append((sizes.batch_rows, sizes.tokens))
        made[at].extend(unit)
        room[at] = (room[at][0] - rows, room[at][1] - tokens)
    return [tuple(members) for members in made]
