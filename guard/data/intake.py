"""Intake: one source read, freed of repeats and held-out rows, and counted against its description."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from guard.data import decontaminate, dedupe, reading
from guard.data.crosswalk import Crosswalk
from guard.data.decontaminate import Fingerprints
from guard.data.row import Drop, Row, label_counts
from guard.data.sources import Source

HELD_OUT = "held-out benchmark"


@dataclass(frozen=True, slots=True, repr=False)
class Intake:
    """The rows of a source that may be used, those dropped on the way, and the counts before and after `HELD_OUT`."""

    source: Source
    read: int
    rows: list[Row]
    drops: list[Drop]
    before: dict[str, int]
    after: dict[str, int]


def take(source: Source, root: Path, table: Crosswalk | None, held_out: Fingerprints) -> Intake:
    """The intake of a source; DataError names file and row of what cannot be read."""
    raw = list(reading.rows(source, root, table))
    distinct, drops = dedupe.drop_repeats(raw)
    rows = []
    for row, flag in zip(distinct, decontaminate.flags(distinct, held_out), strict=True):
        if flag:
            drops.append(Drop(row, HELD_OUT))
        else:
            rows.append(row)
    return Intake(source, len(raw), rows, drops, label_counts(distinct), label_counts(rows))


def mismatches(intake: Intake) -> list[str]:
    """One line for each count that differs from the description of the source; empty if all agree."""
    expected = intake.source.expected
    return [
        f"source {intake.source.name}: {name} rows {stage} decontamination: expected {want:,}, got {got[name]:,}"
        for stage, counts, got in (("before", expected.before, intake.before), ("after", expected.after, intake.after))
        for name, want in dataclasses.asdict(counts).items()
        if want != got[name]
    ]
