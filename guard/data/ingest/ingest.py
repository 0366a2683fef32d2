"""Ingestion of one source: repeats, held-out rows and unusable texts are dropped, and every row is accounted for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from guard.data.ingest import decontaminate, source_rows
from guard.data.ingest.clean import Cleaning, clean
from guard.data.ingest.decontaminate import Fingerprints
from guard.data.ingest.fingerprint import repeat_key
from guard.data.ingest.language import language_of
from guard.data.ingest.source_rows import Broken
from guard.data.row import LABELS, Drop, Row
from guard.data.sources.description import Source
from guard.errors import DataError
from guard.policy.crosswalk import Crosswalk

REPEATED = "repeated in source"
HELD_OUT, HELD_OUT_REPAIRED = "held-out benchmark", "held-out benchmark, once repaired"
OWN_TEST = "own test set"
BROKEN, UNLABELLED, LANGUAGE = "broken", "unlabelled", "language"
BATCH = 1000
MAX_SHOWN = 10  # broken rows in an error


def screen(
    rows: Iterable[Row | Broken], source: Source, held_out: Fingerprints, drop_broken: bool = False
) -> Iterator[Row | Drop]:
    """The rows of a source, with a Drop for each that is broken, repeated in the source, or held out.

    Unless `drop_broken`, broken records are an error: DataError, raised after all rows, shows the first ten.
    """
    seen: set[int] = set()
    problems: list[str] = []
    broken = 0
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        distinct: list[Row] = []
        for row in batch:
            if isinstance(row, Broken):
                broken += 1
                problems += [f"{row.place}: {row.problem}"] if broken <= MAX_SHOWN else []
                yield Drop(source.name, "", None, row.place, BROKEN, row.problem)
            elif (key := repeat_key(row)) in seen:
                yield Drop.of(row, REPEATED)
            else:
                seen.add(key)
                distinct.append(row)
        for row, match in zip(distinct, decontaminate.match_rows(distinct, held_out), strict=True):
            yield Drop.of(row, HELD_OUT, match.rules) if match else row
    if broken and not drop_broken:
        more = [f"… and {broken - MAX_SHOWN} more broken rows"] if broken > MAX_SHOWN else []
        raise DataError(f"source {source.name}:\n" + "\n".join(problems + more))


def prepare(
    rows: Iterable[Row | Drop],
    cleaning: Cleaning,
    languages: tuple[str, ...],
    held_out: Fingerprints,
    against: Fingerprints | None = None,
) -> Iterator[Row | Drop]:
    """The rows with clean texts and identified languages; a Drop for each that is unlabelled, unusable or held out.

    languages: those to keep; all, if there are none. against: fingerprints of the user's own test sets.
    """
    for row in rows:
        if isinstance(row, Drop):
            yield row
        elif row.label == "unlabelled" and row.kind != "pair":
            yield Drop.of(row, UNLABELLED)
        else:
            yield _prepare(row, cleaning, languages, held_out, against)


def _prepare(
    row: Row,
    cleaning: Cleaning,
    languages: tuple[str, ...],
    held_out: Fingerprints,
    against: Fingerprints | None,
) -> Row | Drop:
    clean_row, rejection = clean(row, cleaning)
    if rejection:
        return Drop.of(row, rejection)
    if clean_row.messages != row.messages and (match := decontaminate.match_rows([clean_row], held_out)[0]):
        return Drop.of(row, HELD_OUT_REPAIRED, match.rules)
    if against is not None and (match := decontaminate.match_rows([clean_row], against)[0]):
        return Drop.of(row, OWN_TEST, match.rules)
    if cleaning.identify_languages:
        language = language_of(clean_row.judged, row.language)
        if language != row.language:
            clean_row = dataclasses.replace(clean_row, language=language)
    if languages and clean_row.language not in languages:
        return Drop.of(row, LANGUAGE, clean_row.language)
    return clean_row


@dataclass(slots=True)
class IngestCounts:
    """Row counts of an ingested source, updated by `add` row by row."""

    read: int = 0
    before: Counter[str] = field(default_factory=Counter)  # distinct rows by label
    after: Counter[str] = field(default_factory=Counter)  # those that are not held out, by label
    dropped: Counter[str] = field(default_factory=Counter)  # by reason

    def add(self, row: Row | Drop) -> None:
        self.read += 1
        reason = row.reason if isinstance(row, Drop) else None
        if reason is not None:
            self.dropped[reason] += 1
        if reason not in (BROKEN, REPEATED):
            self.before[str(row.label)] += 1
            if reason != HELD_OUT:
                self.after[str(row.label)] += 1


def count_rows(source: Source, root: Path, table: Crosswalk | None, held_out: Fingerprints) -> IngestCounts:
    """The counts that a source description states: repeats and held-out rows are dropped, nothing else."""
    counts = IngestCounts()
    for row in screen(source_rows.each(source, root, table), source, held_out):
        counts.add(row)
    return counts


def label_counts(labels: Counter[str]) -> dict[str, int]:
    """`{"total", "safe", "unsafe", "unlabelled"}`."""
    return {"total": labels.total(), **{label: labels[label] for label in LABELS}}


def count_mismatches(source: Source, before: dict[str, int], after: dict[str, int]) -> list[str]:
    """A line for each count that differs from the description of the source; none if it states no counts."""
    expected = source.expected
    if expected is None:
        return []
    return [
        f"source {source.name}: {name} rows {stage} decontamination: expected {count:,}, got {actual[name]:,}"
        for stage, counts, actual in (("before", expected.before, before), ("after", expected.after, after))
        for name, count in dataclasses.asdict(counts).items()
        if count != actual[name]
    ]
