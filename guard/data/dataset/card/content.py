"""The sections of a data card on its contents: labels, categories, languages, lengths, clusters, confounds, pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from guard import policy as policies
from guard.data.dataset.open import Confound, Confounds, Dataset
from guard.data.dataset.statistics import SAFE, UNKNOWN, Statistics, by_rows, largest, quantiles
from guard.policy import natural
from guard.report import plots
from guard.report.html import bullets, figure, note, paragraph, share, table

UNSAFE, _PAIR = "unsafe", "pair"
_MAX_BARS = 24
_CLUSTER_BINS = 9  # doubling in size; the last is open
_ROLES = {
    "train": "Labelled by people, by a strong judge, or by how the text was made.",
    "own": "The builder's own rows.",
    "weak": "Rows were not reviewed one by one: the label follows from how the source was made.",
    "provenance": "Labelled rows that come through other data sets; the cautions describe the chain.",
    "benign": "General data, taken as safe without review.",
    "auxiliary": "Comments outside dialogues, labelled by rules that are looser than the policy.",
    "development": "Held out from training, for choosing between models.",
    "preference": "Pairs of answers, one preferred to the other.",
}


def labels(dataset: Dataset, statistics: Statistics) -> list[Markup]:
    topics = statistics.topics()
    if not topics:
        return []
    codes = sorted({topic for _, topic in topics} - {SAFE, UNKNOWN}, key=natural)
    columns = [SAFE, *codes, UNKNOWN]
    names = [source.name for source in dataset.manifest.sources if any(topics[source.name, topic] for topic in columns)]
    grid = np.array([[topics[name, topic] for topic in columns] for name in names]).reshape(len(names), len(columns))
    kinds = statistics.count_by(lambda group: (f"{group.split}: {group.kind}", group.label))
    groups = [
        name
        for split in dataset.labelled
        for name in sorted({name for name, _ in kinds})
        if name.startswith(f"{split}:")
    ]
    one_sided = sum(not line[0] or not line[1:].any() for line in grid)
    return [
        paragraph(
            f"{one_sided:,} of {len(names):,} sources hold rows of one label only. A model may learn to recognise such "
            "sources instead of harm; the clusters and the weights below do not prevent that by themselves."
        ),
        figure(
            f"Rows by source and category. Safe rows violate nothing; {UNKNOWN}: unsafe, and the source does not say "
            "why. A row of two categories counts in both. The colour scale is logarithmic.",
            plots.heat(
                "mixture",
                "Grid of row counts by source and category; its numbers are in the cells.",
                names,
                columns,
                grid,
            ),
            table(
                "Rows by source and category",
                ("source", *columns),
                [(name, *map(int, line)) for name, line in zip(names, grid, strict=True)],
            ),
        ),
        _categories(dataset, statistics, codes),
        _by_label("kinds", "split, kind", kinds, groups),
        _roles(statistics),
    ]


def _categories(dataset: Dataset, statistics: Statistics, codes: Sequence[str]) -> Markup:
    splits = list(dataset.labelled)
    counts: Counter[tuple[str, str]] = Counter()
    sources: dict[str, set[str]] = {}
    for group, count in statistics.rows.items():
        for topic in group.topics:
            counts[topic, group.split] += count
            sources.setdefault(topic, set()).add(group.source)
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
    """The names of the categories, if the policy of the data set is a shipped one."""
    stamp = dataset.manifest.policy
    if stamp.id not in policies.shipped() or (policy := policies.load(stamp.id)).digest != stamp.digest:
        return {}
    return {category.code: category.name for category in policy.categories}


def _roles(statistics: Statistics) -> Markup:
    roles = statistics.count_by(lambda group: group.role)
    weights: defaultdict[str, float] = defaultdict(float)
    for group, weight in statistics.weights.items():
        if group.split == "train":
            weights[group.role] += weight
    total = sum(weights.values())
    rows = [
        (role, _ROLES.get(role, ""), count, share(count, roles.total()), share(weights[role], total))
        for role, count in largest(roles)
    ]
    columns = ("role", "how its labels came about", "rows", "share", "share of training weight")
    return table("How labels came about", columns, rows)


def languages(statistics: Statistics) -> list[Markup]:
    counts = statistics.count_by(lambda group: (group.language, group.label))
    for pair, rows in statistics.pairs.items():
        counts[pair.language, _PAIR] += rows
    return [_by_label("languages", "language", counts, by_rows(counts))] if counts else []


def licences(statistics: Statistics) -> list[Markup]:
    counts = statistics.count_by(lambda group: (group.licence, group.label))
    for pair, rows in statistics.pairs.items():
        counts[pair.licence, _PAIR] += rows
    return [_by_label("licences", "licence", counts, by_rows(counts))] if counts else []


def _by_label(name: str, noun: str, counts: Counter[tuple[str, str]], groups: Sequence[str]) -> Markup:
    """A plot and a table of rows by group and label; the plot shows the first groups only."""
    shown = groups[:_MAX_BARS]
    labels = [label for label in (SAFE, UNSAFE, _PAIR) if any(counts[group, label] for group in groups)]
    totals = {group: sum(counts[group, label] for label in labels) for group in groups}
    rows = [
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
            f"Stacked horizontal bars of rows by {noun} and label; most rows: {max(totals, key=totals.__getitem__)}.",
            shown,
            {label: [counts[group, label] for group in shown] for label in labels},
            "rows",
            [f"{totals[group]:,}" for group in shown],
        ),
        table(f"Rows by {noun} and label", (noun, *labels, "unsafe share"), rows),
    )


def lengths(statistics: Statistics) -> list[Markup]:
    kinds = sorted({kind for kind, _ in statistics.lengths})
    panels = {
        kind: {label: counts for (other, label), counts in statistics.lengths.items() if other == kind}
        for kind in kinds
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


def clusters(statistics: Statistics) -> list[Markup]:
    bins: Counter[int] = Counter()
    rows: Counter[int] = Counter()
    for size, count in statistics.cluster_sizes.items():
        index = min((size - 1).bit_length(), _CLUSTER_BINS)
        bins[index] += count
        rows[index] += size * count
    if not bins:
        return []
    names = {index: _bin_name(index) for index in range(max(bins) + 1)}
    return [
        paragraph(
            "Rows are joined into a cluster by an equal or nearly equal prompt, or because their source groups them. "
            "A whole cluster goes into one split. The largest has "
            f"{max(statistics.cluster_sizes):,} rows."
        ),
        figure(
            "Clusters by number of rows.",
            plots.columns(
                "clusters",
                f"Vertical bars: clusters by number of rows; {bins[0]:,} clusters have one row.",
                {name: bins[index] for index, name in names.items()},
                "rows of the cluster",
                "clusters",
            ),
            table(
                "Clusters by number of rows",
                ("rows of the cluster", "clusters", "rows in all"),
                [(name, bins[index], rows[index]) for index, name in names.items()],
            ),
        ),
    ]


def _bin_name(index: int) -> str:
    low, high = 2 ** (index - 1) + 1 if index else 1, 2**index
    if index == _CLUSTER_BINS:
        return f"{low} and more"
    return f"{low}" if low == high else f"{low}–{high}"


def confounds(confounds: Confounds | None) -> list[Markup]:
    if confounds is None:
        return []
    before = {confound.name: confound for confound in confounds.before.confounds}
    pairs = [(before[after.name], after) for after in confounds.after.confounds if after.name in before]
    probed = [(old.name, old.probe.auroc, new.probe.auroc) for old, new in pairs if old.probe and new.probe]
    names = [name for name, _, _ in probed]
    ends = {"before mixing": [auroc for _, auroc, _ in probed], "after mixing": [auroc for _, _, auroc in probed]}
    rows = [
        (
            new.name,
            *(_auroc(confound) for confound in (old, new)),
            *(share(confound.one_sided_share, 1) for confound in (old, new)),
            new.values or "",
        )
        for old, new in pairs
    ]
    columns = ("", "AUROC before", "AUROC after", "of one label before", "of one label after", "values")
    return [
        paragraph(
            "How well a probe tells unsafe rows from safe ones when it sees nothing of a text's meaning, only its "
            "source, language, length and the like. 0.5 is chance. What is high can be learnt instead of harm. "
            "The effective sample size of the weighted training rows is "
            f"{confounds.after.effective_rows:,.0f}."
        ),
        figure(
            "How well each confound alone predicts the label of training rows, before and after mixing.",
            plots.dumbbells(
                "confounds",
                "Two dots per confound: area under the ROC curve before and after mixing.",
                names,
                ends,
                "AUROC of the probe",
                {"chance": 0.5, "warning": confounds.after.warn_above},
            ),
        ),
        table("Probes of confounds; of one label: share of weight under values that go with one label", columns, rows),
        *(
            [note("What remains after mixing", bullets(confounds.after.warnings), alarm=True)]
            if confounds.after.warnings
            else []
        ),
    ]


def _auroc(confound: Confound) -> str:
    return f"{confound.probe.auroc:.2f}" if confound.probe else ""


def pairs(statistics: Statistics) -> list[Markup]:
    rows = [
        (group.source, group.file, group.language, group.licence, count)
        for group, count in sorted(statistics.pairs.items())
    ]
    if not rows:
        return []
    columns = ("source", "file", "language", "licence", "pairs")
    return [
        paragraph(
            "Two responses to one conversation, of which people or a judge preferred the first; for reward models."
        ),
        table("Preference pairs", columns, rows),
    ]
