"""The made-up texts that the benchmarks read: mixed lengths, all different, nothing that a guard would flag."""

from __future__ import annotations

import random

WORDS = """a about after and answer ask bread bring call chair city clean cloud cold come cook day door early
 explain find fix for garden give green help home how in is keep kind know learn letter light list long make map may me
 meet mend money month morning music need new of old on open paint paper plan plant please question quick read recipe
 right road school send short show simple small song start story summer table tell the time to train travel tree under
 use walk warm water week what where why window with word work write year you""".split()  # noqa: SIM905 - easier to read


def made_up(count: int, longest: int) -> list[str]:
    """Different texts of 3 to `longest` words, median 40; the same ones at every call."""
    pick = random.Random(0)
    lengths = [min(max(int(pick.lognormvariate(3.7, 0.9)), 3), longest) for _ in range(count)]
    return [f"{index}: {' '.join(pick.choices(WORDS, k=length))}" for index, length in enumerate(lengths)]
