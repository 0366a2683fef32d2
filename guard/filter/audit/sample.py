"""A stratified sample of scored rows: as many of each outcome and score as of any other, where there are enough."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from guard.conversation import Conversation
from guard.errors import ConfigError, DataError, InvalidInput
from guard.filter.columns import JudgedColumns, parts_of
from guard.filter.inputs import Source
from guard.filter.scores import ADDED
from guard.jobs.rows import open_rows
from guard.verdict import Outcome

BINS = 10  # of p_unsafe, in each outcome
_SHARD = 1000
_STRATUM = tuple[str, int]


@dataclass(frozen=True, slots=True, repr=False)
class Sampled:
    """A row to label. repr shows no text. messages: [role, content] of each."""

    id: int
    file: str
    line: int
    outcome: str
    bin: int
    p_unsafe: float
    flagged: Sequence[str]
    messages: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Stratum:
    """The rows of an outcome and a bin of p_unsafe."""

    outcome: str
    bin: int
    rows: int


def draw(
    sources: Sequence[Source], columns: JudgedColumns, rows: int, seed: int = 0
) -> tuple[list[Sampled], list[Stratum]]:
    """A sample of so many rows, fewer if there are no more, in random order, and the strata of all rows.

    The sources were written by `guard filter --annotate`, or `--keep all`. Equal files and seeds give equal samples.
    DataError where no row has scores.
    """
    if rows < 1:
        raise ConfigError(f"rows must be >= 1 (got {rows})")
    sizes: Counter[_STRATUM] = Counter()
    drawn: dict[_STRATUM, list[tuple[int, int, Sampled]]] = {}
    for number, (random, each) in enumerate(_scored(sources, columns, seed)):
        stratum = each.outcome, each.bin
        sizes[stratum] += 1
        kept = drawn.setdefault(stratum, [])
        entry = (-random, number, each)
        if len(kept) < rows:
            heapq.heappush(kept, entry)
        elif entry > kept[0]:
            heapq.heapreplace(kept, entry)
    if not sizes:
        raise DataError(
            f"{sources[0].path}: no row has the columns of `guard filter`; write them with `guard filter --annotate`"
        )
    chosen: list[tuple[int, int, Sampled]] = []
    for stratum, count in _allocated({name: len(kept) for name, kept in drawn.items()}, rows).items():
        chosen += sorted(drawn[stratum], reverse=True)[:count]
    chosen.sort(reverse=True)
    sample = [Sampled(**{**asdict(each), "id": place}) for place, (_, _, each) in enumerate(chosen, 1)]
    return sample, [Stratum(*name, count) for name, count in sorted(sizes.items())]


def _allocated(available: Mapping[_STRATUM, int], rows: int) -> dict[_STRATUM, int]:
    """Equal shares; what one stratum has too few rows for goes to the others."""
    left, shares = rows, {}
    for place, (name, count) in enumerate(sorted(available.items(), key=lambda each: (each[1], each[0]))):
        shares[name] = min(count, -(-left // (len(available) - place)))
        left -= shares[name]
    return shares


def _scored(sources: Sequence[Source], columns: JudgedColumns, seed: int) -> Iterator[tuple[int, Sampled]]:
    for source in sources:
        for shard in open_rows(source.path, columns.read, also=None).shards(_SHARD):
            for index in range(len(shard)):
                try:
                    row = shard.row(index)
                    judged = parts_of(row, columns)[-1].conversation
                except InvalidInput:
                    continue
                if not all(name in row for name in ADDED):
                    continue
                line = shard.number(index)
                key = f"{seed}:{source.name}:{line}".encode()
                yield int.from_bytes(hashlib.sha256(key).digest()[:8]), _sampled(source, line, row, judged)


def _sampled(source: Source, line: int, row: Mapping[str, Any], judged: Conversation) -> Sampled:
    flagged = row["guard_flagged"]
    codes = flagged.split(",") if isinstance(flagged, str) else list(flagged or [])
    p = float(row["guard_p_unsafe"])
    outcome = Outcome(row["guard_outcome"]).value
    messages = [[message.role, message.content] for message in judged.messages]
    return Sampled(0, str(source.path), line, outcome, min(int(p * BINS), BINS - 1), p, codes, messages)
