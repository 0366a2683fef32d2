"""The data card: one HTML page, to be read offline, that says what a build holds, where it is from and what it lacks.

It is made from the folder of the build alone. It shows no text of any row.
"""

from __future__ import annotations

from pathlib import Path

from guard.data.dataset import open as builds
from guard.data.dataset.card import content as card_content
from guard.data.dataset.card import origin as card_origin
from guard.data.dataset.open import Confounds, Dataset, open_dataset
from guard.data.dataset.statistics import UNKNOWN, Statistics, compute_statistics, largest
from guard.errors import DataError
from guard.jobs.atomic import atomic
from guard.report.html import Html, bullets, code, element, joined, note, page, section, share, table

NAME = "card.html"
_LOAD = """\
from pathlib import Path

from guard.data.dataset.examples import load_examples

examples = load_examples(Path("DATA"), "train")
"""
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
    """The path of the card, written into the folder of a build; equal builds give equal bytes.

    DataError if the folder is not a build, or a file of it is damaged or not the one that the manifest tells of.
    """
    dataset = open_dataset(folder, verify=True)
    made = card(dataset, compute_statistics(dataset), builds.read_confounds(folder))
    path = folder / NAME
    try:
        with atomic(path) as file:
            file.write(made.encode())
    except OSError as problem:
        raise DataError(f"{path}: cannot be written: {problem.strerror}") from None
    return path


def card(dataset: Dataset, statistics: Statistics, confounds: Confounds | None) -> str:
    """The page."""
    manifest = dataset.manifest
    sections = {
        "use": ("Use", _use(dataset)),
        "labels": ("Labels and categories", card_content.labels(dataset, statistics)),
        "languages": ("Languages", card_content.languages(statistics)),
        "lengths": ("Lengths", card_content.lengths(statistics)),
        "clusters": ("Clusters of near-duplicates", card_content.clusters(statistics)),
        "confounds": ("What predicts the label", card_content.confounds(confounds)),
        "pairs": ("Preference pairs", card_content.pairs(statistics)),
        "sources": ("Sources and licences", card_origin.sources(manifest.sources, card_content.licences(statistics))),
        "accounting": ("Where the rows went", card_origin.accounting(dataset, statistics)),
        "cautions": ("Cautions of the sources", card_origin.cautions(manifest.sources)),
        "limits": ("Limitations", _limits(dataset, statistics)),
        "rebuild": ("How to build it again", card_origin.rebuild(dataset)),
    }
    shown = {name: (title, blocks) for name, (title, blocks) in sections.items() if blocks}
    contents = element(
        "ul", *(element("li", element("a", title, href=f"#{name}")) for name, (title, _) in shown.items())
    )
    title = f"Data card: {manifest.policy.id} {manifest.policy.version}, data {manifest.data_digest[:12]}"
    return page(
        title,
        joined(
            [
                element("header", element("h1", "Data card"), *_summary(dataset, statistics)),
                element("nav", contents, aria_label="Contents"),
                element("main", *(section(name, heading, *blocks) for name, (heading, blocks) in shown.items())),
                element(
                    "footer",
                    element(
                        "p", "Written by ", code("guard data card"), " from the files of the build; it loads nothing."
                    ),
                ),
            ],
            "\n",
        ),
    )


def _summary(dataset: Dataset, statistics: Statistics) -> list[Html]:
    manifest, rows = dataset.manifest, statistics.rows.total()
    labels = statistics.count_by(lambda cell: cell.label)
    splits = statistics.count_by(lambda cell: cell.split)
    used = [part for part in manifest.sources if part.kept]
    languages = statistics.count_by(lambda cell: cell.language)
    unsafe = f": {share(labels['unsafe'], rows)} unsafe" if rows else ""
    lead = (
        f"{rows:,} conversations labelled under policy {manifest.policy.id} {manifest.policy.version}, from "
        f"{len(used):,} sources{unsafe}."
    )
    facts = [
        ("rows", ", ".join(f"{split} {splits[split]:,}" for split in dataset.labelled)),
        ("languages", ", ".join(f"{language} {count:,}" for language, count in largest(languages, 8))),
        ("preference pairs", statistics.pairs.total()),
        ("policy", joined([f"{manifest.policy.id} {manifest.policy.version}, ", code(manifest.policy.digest)])),
        ("data digest", code(manifest.data_digest)),
        ("configuration digest", code(manifest.config_digest)),
    ]
    return [
        element("p", lead, class_="lead"),
        note(
            "Content",
            "Many rows are hateful, sexual or violent, or ask for help with harm; that is what they are for. "
            "This page shows none of them.",
        ),
        *_alarms(dataset, statistics),
        table("The build in short", ("", ""), [fact for fact in facts if fact[1]]),
    ]


def _alarms(dataset: Dataset, statistics: Statistics) -> list[Html]:
    manifest = dataset.manifest
    forbidden = [part for part in manifest.sources if part.name in manifest.noncommercial and part.kept]
    alarms = []
    if forbidden:
        named = ", ".join(f"{part.name} ({part.licence})" for part in forbidden)
        kept = sum(part.kept for part in forbidden)
        alarms.append(
            note(
                "No commercial use",
                f"{kept:,} rows come under licences that forbid commercial use: {named}. What is trained on this build "
                "must not be used commercially.",
                alarm=True,
            )
        )
    for (first, second), clusters in sorted(statistics.shared_clusters.items()):
        alarms.append(
            note(
                "Leak",
                f"{clusters:,} clusters have rows in both {first} and {second}: a number measured on one of them after "
                "training on the other is too good.",
                alarm=True,
            )
        )
    if manifest.warnings:
        alarms.append(note("Warnings of the build", bullets(manifest.warnings), alarm=True))
    return alarms


def _use(dataset: Dataset) -> list[Html]:
    present = set(builds.columns(next(iter(dataset.labelled.values())))) if dataset.labelled else set()
    rows = [(code(name), meaning) for name, meaning in _COLUMNS.items() if name in present]
    return [
        element(
            "p",
            "For training and testing a guard: a classifier that says whether the last turn of a conversation is safe "
            "under the policy and, if not, which categories it violates. Train on train, choose thresholds and "
            "checkpoints on dev, report on test once. It is no benchmark to compare models of different makers on, and "
            "it must not be used to train a model to produce what the unsafe rows hold.",
        ),
        element("pre", _LOAD),
        table("Columns of train, dev and test", ("column", "meaning"), rows),
    ]


def _limits(dataset: Dataset, statistics: Statistics) -> list[Html]:
    languages = largest(statistics.count_by(lambda cell: cell.language))
    rows = statistics.rows.total()
    topics = statistics.count_by(lambda cell: cell.topics == (UNKNOWN,))
    unsafe = statistics.count_by(lambda cell: cell.label)["unsafe"]
    part = "all" if len(languages) == 1 else share(languages[0][1], rows) if languages else "none"
    main = f"{part} of the rows are {languages[0][0] if languages else 'labelled'}"
    return [
        bullets(
            [
                f"Language: {main}. A model trained on this build is unproven in any language with few rows.",
                f"Categories: {share(topics[True], unsafe) or 'none'} of the unsafe rows do not say what they "
                "violate, and some categories have few rows or one source; the table above tells which.",
                "Labels: many hands and models gave them under rules of their own, which were then mapped to this "
                "policy. They disagree at the edges, and some are wrong.",
                "Origin: many unsafe rows were made for red-teaming or written by models. Real traffic looks "
                "different; measure on your own before you rely on a threshold.",
                "Decontamination finds held-out texts that are equal or share long runs of words, not paraphrases or "
                "translations.",
                "People: rows may name people or hold personal data that their sources did not remove.",
            ]
        )
    ]
