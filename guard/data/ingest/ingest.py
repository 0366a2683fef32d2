"""Intake: one source read, freed of repeats, of held-out rows and of what is unfit, every row accounted for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from guard.data.build.dedupe import REPEATED, repeat_key
from guard.data.ingest import decontaminate, source_rows
from guard.data.ingest.clean import Cleaning, clean
from guard.data.ingest.decontaminate import Fingerprints
from guard.data.ingest.language import language_of
from guard.data.ingest.source_rows import Broken
from guard.data.row import LABELS, Drop, Row
from guard.data.sources.description import Source
from guard.errors import DataError
from guard.policy.crosswalk import Crosswalk

HELD_OUT, HELD_OUT_REPAIRED = "held-out benchmark", "held-out benchmark, once repaired"
OWN_TEST = "own test set"
BROKEN, UNLABELLED, LANGUAGE = "broken", "unlabelled", "language"
BATCH = 1000
MISTAKES_SHOWN = 10


def take(
    read: Iterable[Row | Broken], source: Source, held_out: Fingerprints, drop_broken: bool = False
) -> Iterator[Row | Drop]:
    """Each row that was read, or why it may not be used: broken, repeated in its source, or held out.

    Unless `drop_broken`, broken records are an error: DataError, after all of them are read, shows the first ten.
    """
    seen: set[int] = set()
    mistakes: list[str] = []
    broken = 0
    reading_on = iter(read)
    while batch := list(islice(reading_on, BATCH)):
        distinct: list[Row] = []
        for row in batch:
            if isinstance(row, Broken):
                broken += 1
                mistakes += [f"{row.place}: {row.problem}"] if broken <= MISTAKES_SHOWN else []
                yield Drop(source.name, "", None, row.place, BROKEN, row.problem)
            elif (key := repeat_key(row)) in seen:
                yield Drop.of(row, REPEATED)
            else:
                seen.add(key)
                distinct.append(row)
        for row, flag in zip(distinct, decontaminate.flags(distinct, held_out), strict=True):
            yield Drop.of(row, HELD_OUT, flag.rules) if flag else row
    if broken and not drop_broken:
        more = [f"… and {broken - MISTAKES_SHOWN} more broken rows"] if broken > MISTAKES_SHOWN else []
        raise DataError(f"source {source.name}:\n" + "\n".join(mistakes + more))


def fit(
    rows: Iterable[Row | Drop],
    cleaning: Cleaning,
    languages: tuple[str, ...],
    held_out: Fingerprints,
    against: Fingerprints | None = None,
) -> Iterator[Row | Drop]:
    """Each row cleaned, in one of the `languages` (all, if there are none) and labelled, or why it is not.

    `against`: what a user's own test sets hold.
    """
    for row in rows:
        if isinstance(row, Drop):
            yield row
        elif row.label == "unlabelled" and row.kind != "pair":
            yield Drop.of(row, UNLABELLED)
        else:
            yield _fit(row, cleaning, languages, held_out, against)


def _fit(
    row: Row,
    cleaning: Cleaning,
    languages: tuple[str, ...],
    held_out: Fingerprints,
    against: Fingerprints | None,
) -> Row | Drop:
    clean_row, unfit = clean(row, cleaning)
    if unfit:
        return Drop.of(row, unfit)
    if clean_row.messages != row.messages and (flag := decontaminate.flags([clean_row], held_out)[0]):
        return Drop.of(row, HELD_OUT_REPAIRED, flag.rules)
    if against is not None and (flag := decontaminate.flags([clean_row], against)[0]):
        return Drop.of(row, OWN_TEST, flag.rules)
    if cleaning.identify_languages:
        language = language_of(clean_row.judged, row.language)
        if language != row.language:
            clean_row = dataclasses.replace(clean_row, language=language)
    if languages and clean_row.language not in languages:
        return Drop.of(row, LANGUAGE, clean_row.language)
    return clean_row


@dataclass(slots=True)
class Count:
    """What became of the rows of a source: counts that `see` adds to, row by row."""

    read: int = 0
    before: Counter[str] = field(default_factory=Counter)  # labels of distinct rows
    after: Counter[str] = field(default_factory=Counter)  # of those that are not held out
    dropped: Counter[str] = field(default_factory=Counter)

    def see(self, row: Row | Drop) -> None:
        self.read += 1
        reason = row.reason if isinstance(row, Drop) else None
        if reason is not None:
            self.dropped[reason] += 1
        if reason not in (BROKEN, REPEATED):
            self.before[str(row.label)] += 1
            if reason != HELD_OUT:
                self.after[str(row.label)] += 1


def count(source: Source, root: Path, table: Crosswalk | None, held_out: Fingerprints) -> Count:
    """The counts of a source as its description tells them: repeats and held-out rows taken out, nothing else."""
    counted = Count()
    for row in take(source_rows.each(source, root, table), source, held_out):
        counted.see(row)
    return counted


def label_counts(labels: Counter[str]) -> dict[str, int]:
    """`{"total", "safe", "unsafe", "unlabelled"}`."""
    return {"total": labels.total(), **{label: labels[label] for label in LABELS}}


def mismatches(source: Source, before: dict[str, int], after: dict[str, int]) -> list[str]:
    """One line for each count that differs from the description of the source; none where it states none."""
    expected = source.expected
    if expected is None:
        return []
    return [
        f"source {source.name}: {name} rows {stage} decontamination: expected {want:,}, got {got[name]:,}"
        for stage, counts, got in (("before", expected.before, before), ("after", expected.after, after))
        for name, want in dataclasses.asdict(counts).items()
        if want != got[name]
    ]
