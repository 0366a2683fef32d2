"""The data card: one HTML page for offline reading, on the contents of a data set, its origin and its limits.

It is made from the folder of the data set alone, and shows no text of any row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from guard.data.dataset.card import content, origin
from guard.data.dataset.open import Confounds, Dataset, columns, open_dataset, read_confounds
from guard.data.dataset.statistics import UNKNOWN, Statistics, compute_statistics, largest
from guard.errors import DataError
from guard.jobs.atomic import atomic
from guard.report.html import Section, bullets, code, note, page, share, table, template

NAME = "card.html"
_COLUMNS = {
    "id": "16 hex digits that follow from the source and the texts",
    "messages": "role and content of each turn; the last one is judged",
    "label": "safe or unsafe, of the last turn",
    "categories": "codes of the policy that an unsafe row violates",
    "categories_known": "false where the source does not say what an unsafe row violates",
    "undecided": "codes about which the source says neither yes nor no: mask them in a loss",
    "source": "the source's name, as in the tables here",
    "licence": "of the source; it goes with the row",
    "role": "how the source came by its labels",
    "language": "code of the language, und where it is not known",
    "kind": "prompt, response (the last turn answers the one before) or text (outside a dialogue)",
    "cluster": "rows that say nearly the same, or belong together, share it, and share a split",
    "weight": "of the row in a training loss",
}


def write_card(folder: Path) -> Path:
    """Write the card into the folder of a data set and return its path; equal data sets give equal bytes.

    DataError if the folder is not a data set, or a file of it is damaged or not the one of its manifest.
    """
    dataset = open_dataset(folder, verify=True)
    text = card(dataset, compute_statistics(dataset), read_confounds(folder))
    path = folder / NAME
    try:
        with atomic(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def card(dataset: Dataset, statistics: Statistics, confounds: Confounds | None) -> str:
    """The page."""
    sources = dataset.manifest.sources
    sections = [
        Section("use", "Use", _use(dataset)),
        Section("labels", "Labels and categories", content.labels(dataset, statistics)),
        Section("languages", "Languages", content.languages(statistics)),
        Section("lengths", "Lengths", content.lengths(statistics)),
        Section("clusters", "Clusters of near-duplicates", content.clusters(statistics)),
        Section("confounds", "What predicts the label", content.confounds(confounds)),
        Section("pairs", "Preference pairs", content.pairs(statistics)),
        Section("sources", "Sources and licences", origin.sources(sources, content.licences(statistics))),
        Section("accounting", "Row accounting", origin.accounting(dataset, statistics)),
        Section("cautions", "Cautions of the sources", origin.cautions(sources)),
        Section("limits", "Limitations", _limits(statistics)),
        Section("rebuild", "How to build it again", [origin.rebuild(dataset, prose())]),
    ]
    policy = dataset.manifest.policy
    title = f"Data card: {policy.id} {policy.version}, data {dataset.manifest.data_digest[:12]}"
    footer = Markup("Written by {} from the files of the data set; it loads nothing.").format(code("guard data card"))
    return page(title, "Data card", _summary(dataset, statistics), sections, footer)


def prose() -> Any:
    return template(Path(__file__).with_name("prose.html"))


def _summary(dataset: Dataset, statistics: Statistics) -> list[Markup]:
    manifest, rows = dataset.manifest, statistics.rows.total()
    labels = statistics.count_by(lambda group: group.label)
    splits = statistics.count_by(lambda group: group.split)
    languages = statistics.count_by(lambda group: group.language)
    used = sum(source.kept > 0 for source in manifest.sources)
    unsafe = f": {share(labels['unsafe'], rows)} unsafe" if rows else ""
    lead = (
        f"{rows:,} conversations labelled under policy {manifest.policy.id} {manifest.policy.version}, from "
        f"{used:,} sources{unsafe}."
    )
    policy = f"{manifest.policy.id} {manifest.policy.version}, "
    facts = [
        ("rows", ", ".join(f"{split} {splits[split]:,}" for split in dataset.labelled)),
        ("languages", ", ".join(f"{language} {count:,}" for language, count in largest(languages, 8))),
        ("preference pairs", statistics.pairs.total()),
        ("policy", Markup("{}{}").format(policy, code(manifest.policy.digest))),
        ("data digest", code(manifest.data_digest)),
        ("configuration digest", code(manifest.config_digest)),
    ]
    return [
        Markup('<p class="lead">{}</p>').format(lead),
        note(
            "Content",
            "Many rows are hateful, sexual or violent, or ask for help with harm; that is what they are for. "
            "This page shows none of them.",
        ),
        *_alarms(dataset, statistics),
        table("Summary", ("", ""), [fact for fact in facts if fact[1]]),
    ]


def _alarms(dataset: Dataset, statistics: Statistics) -> list[Markup]:
    manifest = dataset.manifest
    forbidden = [source for source in manifest.sources if source.name in manifest.noncommercial and source.kept]
    alarms = []
    if forbidden:
        names = ", ".join(f"{source.name} ({source.licence})" for source in forbidden)
        text = (
            f"{sum(source.kept for source in forbidden):,} rows come under licences that forbid commercial use: "
            f"{names}. Models trained on this data set must not be used commercially."
        )
        alarms.append(note("No commercial use", text, alarm=True))
    for (first, second), clusters in sorted(statistics.shared_clusters.items()):
        text = (
            f"{clusters:,} clusters have rows in both {first} and {second}: a number measured on one of them after "
            "training on the other is too good."
        )
        alarms.append(note("Leak", text, alarm=True))
    if manifest.warnings:
        alarms.append(note("Warnings of the build", bullets(manifest.warnings), alarm=True))
    return alarms


def _use(dataset: Dataset) -> list[Markup]:
    present = set(columns(next(iter(dataset.labelled.values())))) if dataset.labelled else set()
    rows = [(code(name), meaning) for name, meaning in _COLUMNS.items() if name in present]
    return [prose().use(table("Columns of train, dev and test", ("column", "meaning"), rows))]


def _limits(statistics: Statistics) -> list[Markup]:
    rows = statistics.rows.total()
    languages = largest(statistics.count_by(lambda group: group.language))
    part = "all" if len(languages) == 1 else share(languages[0][1], rows) if languages else "none"
    main = languages[0][0] if languages else "labelled"
    unknown = statistics.count_by(lambda group: group.topics == (UNKNOWN,))[True]
    unsafe = statistics.count_by(lambda group: group.label)["unsafe"]
    return [prose().limits(f"{part} of the rows are {main}", share(unknown, unsafe) or "none")]
