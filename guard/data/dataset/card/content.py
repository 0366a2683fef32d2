"""The part of a data card that says what a build holds: labels, categories, languages, lengths, clusters, confounds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from guard import policy as policies
from guard.data.dataset.open import Confound, Confounds, Dataset
from guard.data.dataset.statistics import SAFE, UNKNOWN, Statistics, by_rows, largest, quantiles
from guard.policy import natural
from guard.report import plots
from guard.report.html import Html, bullets, element, figure, note, share, table

UNSAFE, _PAIR = "unsafe", "pair"
_BARS_SHOWN = 24
_CLUSTER_BINS = 9  # doubling in size; the last has no end
_ROLES = {
    "train": "Labelled by people, by a strong judge, or by how the text was made.",
    "own": "The builder's own rows.",
    "weak": "Nobody read the rows one by one: the label follows from how the source was made.",
    "provenance": "Labelled rows that reached us through other data sets; the chain is told among the cautions.",
    "benign": "General data, read as safe and not reviewed.",
    "auxiliary": "Comments outside dialogues, labelled by rules that are looser than the policy.",
    "development": "Held back from training, for choosing between models.",
    "preference": "Pairs of answers, one preferred to the other.",
}


def labels(dataset: Dataset, statistics: Statistics) -> list[Html]:
    topics = statistics.topics()
    if not topics:
        return []
    codes = sorted({topic for _, topic in topics} - {SAFE, UNKNOWN}, key=natural)
    columns = [SAFE, *codes, UNKNOWN]
    kept = [part.name for part in dataset.manifest.sources if any(topics[part.name, topic] for topic in columns)]
    grid = np.array([[topics[name, topic] for topic in columns] for name in kept]).reshape(len(kept), len(columns))
    kinds = statistics.count_by(lambda cell: (f"{cell.split}: {cell.kind}", cell.label))
    groups = [
        name
        for split in dataset.labelled
        for name in sorted({name for name, _ in kinds})
        if name.startswith(f"{split}:")
    ]
    one_label = [name for name, line in zip(kept, grid, strict=True) if not line[0] or not line[1:].any()]
    return [
        element(
            "p",
            f"{len(one_label):,} of {len(kept):,} sources hold rows of one label only. A model may learn to tell such "
            "sources instead of harm; the clusters and the weights below do not prevent that by themselves.",
        ),
        figure(
            f"Rows by source and category. Safe rows violate nothing; {UNKNOWN}: unsafe, and the source does not say "
            "why. A row of two categories counts in both. A stronger colour is more, by powers of ten.",
            plots.heat(
                "mixture",
                "Grid of row counts by source and category; its numbers are in the cells.",
                kept,
                columns,
                grid,
            ),
            table(
                "Rows by source and category",
                ("source", *columns),
                [(name, *map(int, line)) for name, line in zip(kept, grid, strict=True)],
            ),
        ),
        _categories(dataset, statistics, codes),
        _by_label("kinds", "split, kind", kinds, groups),
        _roles(statistics),
    ]


def _categories(dataset: Dataset, statistics: Statistics, codes: Sequence[str]) -> Html:
    splits = list(dataset.labelled)
    counts: Counter[tuple[str, str]] = Counter()
    sources: dict[str, set[str]] = {}
    for cell, count in statistics.rows.items():
        for topic in cell.topics:
            counts[topic, cell.split] += count
            sources.setdefault(topic, set()).add(cell.source)
    names = _category_names(dataset)
    undecided = bool(statistics.undecided)
    rows = [
        (
            topic,
            names.get(topic, ""),
            *(counts[topic, split] for split in splits),
            len(sources.get(topic, ())),
            *([statistics.undecided[topic]] if undecided else []),
        )
        for topic in (*sorted({*codes, *names, *statistics.undecided}, key=natural), UNKNOWN)
    ]
    columns = ("category", "name", *splits, "sources", *(["undecided rows"] if undecided else []))
    return table("Unsafe rows by category and split", columns, rows)


def _category_names(dataset: Dataset) -> dict[str, str]:
    """Names of the categories, if the policy of the build is one that is shipped."""
    told = dataset.manifest.policy
    if told.id not in policies.shipped() or (policy := policies.load(told.id)).digest != told.digest:
        return {}
    return {one.code: one.name for one in policy.categories}


def _roles(statistics: Statistics) -> Html:
    roles = statistics.count_by(lambda cell: cell.role)
    train = {cell: weight for cell, weight in statistics.weights.items() if cell.split == "train"}
    weighed: defaultdict[str, float] = defaultdict(float)
    for cell, weight in train.items():
        weighed[cell.role] += weight
    rows = [
        (role, _ROLES.get(role, ""), count, share(count, roles.total()), share(weighed[role], sum(train.values())))
        for role, count in largest(roles)
    ]
    columns = ("role", "how its labels came about", "rows", "share", "share of training weight")
    return table("How labels came about", columns, rows)


def languages(statistics: Statistics) -> list[Html]:
    counts = statistics.count_by(lambda cell: (cell.language, cell.label))
    for pair, rows in statistics.pairs.items():
        counts[pair.language, _PAIR] += rows
    return [_by_label("languages", "language", counts, by_rows(counts))] if counts else []


def licences(statistics: Statistics) -> list[Html]:
    counts = statistics.count_by(lambda cell: (cell.licence, cell.label))
    for pair, rows in statistics.pairs.items():
        counts[pair.licence, _PAIR] += rows
    return [_by_label("licences", "licence", counts, by_rows(counts))] if counts else []


def _by_label(name: str, noun: str, counts: Counter[tuple[str, str]], groups: Sequence[str]) -> Html:
    """Bars and table of rows by group and label; the plot has the first groups only."""
    shown = groups[:_BARS_SHOWN]
    labels = [label for label in (SAFE, UNSAFE, _PAIR) if any(counts[group, label] for group in groups)]
    totals = {group: sum(counts[group, label] for label in labels) for group in groups}
    told = [
        (
            group,
            *(counts[group, label] for label in labels),
            share(counts[group, UNSAFE], counts[group, SAFE] + counts[group, UNSAFE]),
        )
        for group in groups
    ]
    more = f"; {len(groups) - len(shown)} smaller ones are in the table" if len(groups) > len(shown) else ""
    return figure(
        f"Rows by {noun} and label{more}.",
        plots.bars(
            name,
            f"Stacked lying bars of rows by {noun} and label; most rows: {max(totals, key=totals.__getitem__)}.",
            shown,
            {label: [counts[group, label] for group in shown] for label in labels},
            "rows",
            [f"{totals[group]:,}" for group in shown],
        ),
        table(f"Rows by {noun} and label", (noun, *labels, "unsafe share"), told),
    )


def lengths(statistics: Statistics) -> list[Html]:
    kinds = sorted({kind for kind, _ in statistics.lengths})
    panels = {
        kind: {label: counts for (its, label), counts in statistics.lengths.items() if its == kind} for kind in kinds
    }
    rows = [
        (f"{kind}, {label}", counts.total(), *quantiles(counts, (0.05, 0.5, 0.95, 1.0)))
        for (kind, label), counts in sorted(statistics.lengths.items())
    ]
    if not rows:
        return []
    return [
        figure(
            "Characters of the judged turn, by kind and label; the bins grow by half octaves.",
            plots.histograms(
                "lengths", "Histograms of lengths of safe and unsafe rows, a panel for each kind.", panels, "characters"
            ),
        ),
        table(
            "Characters of the judged turn",
            ("kind, label", "rows", "5 % are up to", "half are up to", "95 % are up to", "longest"),
            rows,
        ),
    ]


def clusters(statistics: Statistics) -> list[Html]:
    bins: Counter[int] = Counter()
    rows: Counter[int] = Counter()
    for size, found in statistics.cluster_sizes.items():
        place = min((size - 1).bit_length(), _CLUSTER_BINS)
        bins[place] += found
        rows[place] += size * found
    if not bins:
        return []
    names = {place: _bin_name(place) for place in range(max(bins) + 1)}
    return [
        element(
            "p",
            "Rows are joined into a cluster by an equal or nearly equal prompt, or where their source says that they "
            "belong together. A whole cluster goes into one split. The largest has "
            f"{max(statistics.cluster_sizes):,} rows.",
        ),
        figure(
            "Clusters by number of rows.",
            plots.columns(
                "clusters",
                f"Standing bars: clusters by number of rows; {bins[0]:,} clusters have one row.",
                {name: bins[place] for place, name in names.items()},
                "rows of the cluster",
                "clusters",
            ),
            table(
                "Clusters by number of rows",
                ("rows of the cluster", "clusters", "rows in all"),
                [(name, bins[place], rows[place]) for place, name in names.items()],
            ),
        ),
    ]


def _bin_name(place: int) -> str:
    low, high = 2 ** (place - 1) + 1 if place else 1, 2**place
    if place == _CLUSTER_BINS:
        return f"{low} and more"
    return f"{low}" if low == high else f"{low}–{high}"


def confounds(confounds: Confounds | None) -> list[Html]:
    if confounds is None:
        return []
    before = {one.name: one for one in confounds.before.confounds}
    both = [(before[one.name], one) for one in confounds.after.confounds if one.name in before]
    probed = [(first, second) for first, second in both if first.probe and second.probe]
    names = [one.name for one, _ in probed]
    ends = {
        "before mixing": [one.probe.auroc for one, _ in probed if one.probe],
        "after mixing": [one.probe.auroc for _, one in probed if one.probe],
    }
    rows = [
        (
            second.name,
            *(_auroc(one) for one in (first, second)),
            *(share(one.one_sided_share, 1) for one in (first, second)),
            second.values or "",
        )
        for first, second in both
    ]
    columns = ("", "AUROC before", "AUROC after", "of one label before", "of one label after", "values")
    return [
        element(
            "p",
            "How far a probe gets in telling unsafe rows from safe ones when it sees nothing of a text's meaning, only "
            "its source, language, length and the like. 0.5 is chance. What is high can be learnt instead of harm. "
            "Weighed as they are, the training rows are worth "
            f"{confounds.after.effective_rows:,.0f} of equal weight.",
        ),
        figure(
            "How well each confound alone predicts the label of training rows, before and after mixing.",
            plots.dumbbells(
                "confounds",
                "Two dots a confound: area under the ROC curve before and after mixing.",
                names,
                ends,
                "AUROC of the probe",
                {"chance": 0.5, "warning": confounds.after.warn_above},
            ),
        ),
        table("Probes of confounds; of one label: share of weight under values that go with one label", columns, rows),
        *(
            [note("What is left after mixing", bullets(confounds.after.warnings), alarm=True)]
            if confounds.after.warnings
            else []
        ),
    ]


def _auroc(one: Confound) -> str:
    return f"{one.probe.auroc:.2f}" if one.probe else ""


def pairs(statistics: Statistics) -> list[Html]:
    rows = [
        (cell.source, cell.file, cell.language, cell.licence, count) for cell, count in sorted(statistics.pairs.items())
    ]
    if not rows:
        return []
    columns = ("source", "file", "language", "licence", "pairs")
    return [
        element(
            "p", "Two answers to one conversation, of which people or a judge preferred the first; for reward models."
        ),
        table("Preference pairs", columns, rows),
    ]
