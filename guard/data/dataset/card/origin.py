"""The sections of a data card on the origin of a data set: sources, licences, drops, how to build it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from guard import document
from guard.data.dataset.open import Dataset, SourceEntry
from guard.data.dataset.statistics import Statistics, largest
from guard.errors import DataError
from guard.report import plots
from guard.report.html import code, figure, link, paragraph, table

_MAX_REASONS = 8  # colours of the plot of drops; the other reasons are merged
_MAX_RULES = 20


def rebuild(dataset: Dataset, prose: Any) -> Markup:
    manifest = dataset.manifest
    files = table(
        "Files of the data set",
        ("file", "sha256"),
        [(code(name), code(digest)) for name, digest in manifest.files.items()],
    )
    raw_files = table(
        "Raw files with their sha256, or their revision if they come from a hub",
        ("file", "source", "digest"),
        [
            (code(name), source.name, code(digest))
            for source in manifest.sources
            for name, digest in source.files.items()
        ],
    )
    return Markup(prose.rebuild(document.dump(manifest.config), files, raw_files))


def sources(entries: Iterable[SourceEntry], licences: Iterable[Markup]) -> list[Markup]:
    """`licences`: the blocks on rows by licence."""
    rows = [
        (
            source.name,
            link(_url(source), source.title or source.name),
            source.licence,
            source.attribution,
            source.role,
            source.kept,
        )
        for source in entries
    ]
    return [
        paragraph(
            "Every row carries the licence of its source, and every source wants its makers credited. The licences are "
            "those that the sources state; whether they may be combined for your purpose is yours to judge."
        ),
        *licences,
        table(
            "Sources, linked to the version that was read",
            ("source", "title", "licence", "credit", "role", "rows kept"),
            rows,
        ),
    ]


def _url(source: SourceEntry) -> str:
    """The upstream of the source, at the commit that was read if the host is known to show one."""
    upstream = source.upstream.rstrip("/")
    if source.commit and upstream.startswith(("https://github.com/", "https://huggingface.co/")):
        return f"{upstream}/tree/{source.commit}"
    return upstream


def accounting(dataset: Dataset, statistics: Statistics) -> list[Markup]:
    entries = dataset.manifest.sources
    reasons: Counter[str] = Counter()
    for source in entries:
        reasons.update(source.dropped)
    _check_drops(dataset, statistics)
    ordered = [reason for reason, _ in reasons.most_common()]
    total, kept = sum(source.read for source in entries), sum(source.kept for source in entries)
    rows = [
        (source.name, source.read, source.kept, *(source.dropped.get(reason, 0) for reason in ordered))
        for source in entries
    ]
    rows.append(("all", total, kept, *(reasons[reason] for reason in ordered)))
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    rules = [(reason, rule, count) for (reason, rule), count in largest(statistics.rules, _MAX_RULES)]
    return [
        paragraph(
            f"{total:,} rows were read, {kept:,} kept and {reasons.total():,} dropped, each for one reason"
            f"{': ' + dropped if dropped else ''}."
        ),
        figure(
            "Rows of each source that were kept, and dropped for each reason, as a share of the rows read, whose "
            "number is at the right.",
            _drop_plot([source for source in entries if source.read], ordered),
            table("Rows by source and reason", ("source", "read", "kept", *ordered), rows),
        ),
        *([table("The most common rules behind drops", ("reason", "rule", "rows"), rules)] if rules else []),
    ]


def _drop_plot(read: list[SourceEntry], reasons: list[str]) -> Markup:
    shown, rest = reasons[:_MAX_REASONS], reasons[_MAX_REASONS:]
    series = {"kept": [100 * source.kept / source.read for source in read]}
    series |= {reason: [100 * source.dropped.get(reason, 0) / source.read for source in read] for reason in shown}
    if rest:
        series["other reasons"] = [
            100 * sum(source.dropped.get(reason, 0) for reason in rest) / source.read for source in read
        ]
    return plots.bars(
        "drops",
        "Stacked horizontal bars by source: the share of rows kept, and of those dropped for each reason. "
        f"Most common reason: {reasons[0] if reasons else 'none'}.",
        [source.name for source in read],
        series,
        "% of rows read",
        [f"{source.read:,}" for source in read],
    )


def _check_drops(dataset: Dataset, statistics: Statistics) -> None:
    if statistics.drops is None:
        return
    stated = Counter(
        {(source.name, reason): rows for source in dataset.manifest.sources for reason, rows in source.dropped.items()}
    )
    if +stated != +statistics.drops:
        raise DataError(f"{dataset.drops}: counts of dropped rows differ from the manifest's; build it again")


def cautions(entries: Iterable[SourceEntry]) -> list[Markup]:
    rows = [(source.name, source.cautions) for source in entries if source.cautions and source.kept]
    return [table("What to know before trusting a source", ("source", "caution"), rows)] if rows else []
