"""The part of a data card that says where a build is from: sources, licences, drops, how to build it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from guard import document
from guard.data.dataset.open import Dataset, SourceEntry
from guard.data.dataset.statistics import Statistics, largest
from guard.errors import DataError
from guard.report import plots
from guard.report.html import Html, code, element, figure, link, table

_REASONS_SHOWN = 8  # colours of the plot of drops; the rest of the reasons are one
_RULES_SHOWN = 20


def rebuild(dataset: Dataset) -> list[Html]:
    manifest = dataset.manifest
    settings = document.dump(manifest.config)
    return [
        element("p", "Equal configuration and raw files give equal bytes, and so the data digest above:"),
        element(
            "pre",
            "guard data build CONFIG.yaml --root DIR --out DATA\nguard data diff DATA OTHER  # where two builds differ",
        ),
        element("details", element("summary", "CONFIG.yaml, every setting in force"), element("pre", settings)),
        table(
            "Files of the build",
            ("file", "sha256"),
            [(code(name), code(digest)) for name, digest in manifest.files.items()],
        ),
        element(
            "details",
            element("summary", "Raw files that were read"),
            table(
                "Raw files, with their sha256, or their revision where they come from a hub",
                ("file", "source", "digest"),
                [(code(name), part.name, code(file)) for part in manifest.sources for name, file in part.files.items()],
            ),
        ),
    ]


def sources(parts: Iterable[SourceEntry], licences: Iterable[Html]) -> list[Html]:
    """`licences`: what to show of the rows by licence."""
    rows = [
        (part.name, link(_address(part), part.title or part.name), part.licence, part.attribution, part.role, part.kept)
        for part in parts
    ]
    return [
        element(
            "p",
            "Every row carries the licence of its source, and every source wants its makers named. The licences are "
            "those that the sources state; whether they may be combined for your purpose is yours to judge.",
        ),
        *licences,
        table(
            "Sources, linked to the version that was read",
            ("source", "title", "licence", "credit", "role", "rows kept"),
            rows,
        ),
    ]


def _address(part: SourceEntry) -> str:
    """Where the source lies, at the commit that was read where the host is known to show one."""
    upstream = part.upstream.rstrip("/")
    if part.commit and upstream.startswith(("https://github.com/", "https://huggingface.co/")):
        return f"{upstream}/tree/{part.commit}"
    return upstream


def accounting(dataset: Dataset, statistics: Statistics) -> list[Html]:
    parts = dataset.manifest.sources
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.dropped)
    _check_drops(dataset, statistics)
    ordered = [reason for reason, _ in reasons.most_common()]
    shown, rest = ordered[:_REASONS_SHOWN], ordered[_REASONS_SHOWN:]
    read = [part for part in parts if part.read]
    series = {"kept": [100 * part.kept / part.read for part in read]}
    series |= {reason: [100 * part.dropped.get(reason, 0) / part.read for part in read] for reason in shown}
    if rest:
        series["other reasons"] = [
            100 * sum(part.dropped.get(reason, 0) for reason in rest) / part.read for part in read
        ]
    total = sum(part.read for part in parts)
    rows = [(part.name, part.read, part.kept, *(part.dropped.get(reason, 0) for reason in ordered)) for part in parts]
    rows.append(("all", total, sum(part.kept for part in parts), *(reasons[reason] for reason in ordered)))
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    rules = [(reason, rule, count) for (reason, rule), count in largest(statistics.rules, _RULES_SHOWN)]
    return [
        element(
            "p",
            f"{total:,} rows were read, {rows[-1][2]:,} kept and {reasons.total():,} dropped, each for one reason"
            f"{': ' + dropped if dropped else ''}.",
        ),
        figure(
            "What became of the rows of each source, as a share of those read; the number is of rows read.",
            plots.bars(
                "drops",
                "Stacked lying bars by source: the share of rows kept, and of those dropped for each reason. "
                f"Most common reason: {ordered[0] if ordered else 'none'}.",
                [part.name for part in read],
                series,
                "% of rows read",
                [f"{part.read:,}" for part in read],
            ),
            table("Rows by source and reason", ("source", "read", "kept", *ordered), rows),
        ),
        *([table("The most common rules behind drops", ("reason", "rule", "rows"), rules)] if rules else []),
    ]


def _check_drops(dataset: Dataset, statistics: Statistics) -> None:
    if statistics.drops is None:
        return
    told = Counter(
        {(part.name, reason): rows for part in dataset.manifest.sources for reason, rows in part.dropped.items()}
    )
    if +told != +statistics.drops:
        raise DataError(f"{dataset.drops}: counts of dropped rows differ from the manifest's; build it again")


def cautions(parts: Iterable[SourceEntry]) -> list[Html]:
    rows = [(part.name, part.cautions) for part in parts if part.cautions and part.kept]
    return [table("What to know before trusting a source", ("source", "caution"), rows)] if rows else []
