"""Statistics of a data set: row counts by attribute, read column by column; of texts only the lengths are taken."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from guard.data.dataset.open import Dataset, batches, hash_texts
from guard.errors import DataError, need

SAFE, UNKNOWN = "safe", "unknown"  # unknown: an unsafe row whose source does not say what it violates
Key = TypeVar("Key")
_KEYS = ("source", "label", "kind", "language", "licence", "role")


class RowGroup(NamedTuple):
    """The attributes shared by labelled rows that are counted together."""

    split: str
    source: str
    label: str
    kind: str
    language: str
    licence: str
    role: str
    categories: tuple[str, ...]

    @property
    def topics(self) -> tuple[str, ...]:
        """The categories of an unsafe row, `UNKNOWN` if there are none; `SAFE` for a safe one."""
        return (SAFE,) if self.label == SAFE else self.categories or (UNKNOWN,)


class PairGroup(NamedTuple):
    """The attributes shared by preference pairs that are counted together."""

    file: str
    source: str
    language: str
    licence: str


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """Row counts and sums of weights by group.

    lengths: rows by number of characters of the judged text, by (kind, label). cluster_sizes: clusters by number of
    rows. shared_clusters: the number of clusters that two splits share. undecided: rows by undecided category. drops:
    by (source, reason), None if the data set has no file of them; rules: by (reason, rule).
    """

    rows: Counter[RowGroup]
    weights: dict[RowGroup, float]
    lengths: dict[tuple[str, str], Counter[int]]
    cluster_sizes: Counter[int]
    shared_clusters: dict[tuple[str, str], int]
    undecided: Counter[str]
    drops: Counter[tuple[str, str]] | None
    rules: Counter[tuple[str, str]]
    pairs: Counter[PairGroup]

    def count_by(self, key: Callable[[RowGroup], Any]) -> Counter[Any]:
        """Rows by `key`."""
        counts: Counter[Any] = Counter()
        for group, rows in self.rows.items():
            counts[key(group)] += rows
        return counts

    def topics(self) -> Counter[tuple[str, str]]:
        """Rows by (source, topic); a row of two categories counts under both."""
        counts: Counter[tuple[str, str]] = Counter()
        for group, rows in self.rows.items():
            for topic in group.topics:
                counts[group.source, topic] += rows
        return counts


def compute_statistics(dataset: Dataset) -> Statistics:
    """The statistics of a data set; DataError if a file is damaged. Memory: 8 bytes per row and the distinct groups."""
    rows: Counter[RowGroup] = Counter()
    weights: dict[RowGroup, float] = {}
    lengths: dict[tuple[str, str], Counter[int]] = {}
    undecided: Counter[str] = Counter()
    clusters = {}
    for split, path in dataset.labelled.items():
        names = []
        for batch in batches(path, (*_KEYS, "categories", "weight", "cluster", "messages"), ("undecided",)):
            for group, count, weight in _groups(batch, split):
                rows[group] += count
                weights[group] = weights.get(group, 0.0) + weight
            for key, counts in _lengths(batch, path):
                lengths.setdefault(key, Counter()).update(counts)
            if "undecided" in batch.schema.names:
                undecided.update(batch.column("undecided").flatten().to_pylist())
            names.append(hash_texts(batch.column("cluster").to_pylist()))
        clusters[split] = np.unique(np.concatenate(names or [hash_texts(())]), return_counts=True)
    sizes, shared = _clusters(clusters)
    drops, rules = (None, Counter()) if dataset.drops is None else _drops(dataset.drops)
    return Statistics(rows, weights, lengths, sizes, shared, undecided, drops, rules, _pairs(dataset))


def _groups(batch: Any, split: str) -> Iterator[tuple[RowGroup, int, float]]:
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    keys = {name: batch.column(name) for name in _KEYS}
    joined = compute.fill_null(compute.binary_join(batch.column("categories"), " "), "")
    table = arrow.table({**keys, "categories": joined, "weight": batch.column("weight")})
    # One thread: the order of summation must not change.
    grouped = table.group_by([*_KEYS, "categories"], use_threads=False).aggregate(
        [("weight", "sum"), ([], "count_all")]
    )
    for row in grouped.to_pylist():
        categories = tuple(row["categories"].split())
        yield (
            RowGroup(split=split, categories=categories, **{name: row[name] for name in _KEYS}),
            row["count_all"],
            row["weight_sum"],
        )


def _lengths(batch: Any, path: Path) -> Iterator[tuple[tuple[str, str], dict[int, int]]]:
    """Rows by number of characters of their last message, for each kind and label."""
    compute = need("pyarrow.compute", "data")
    messages = batch.column("messages")
    turns = compute.fill_null(compute.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
    if not turns.all():
        raise DataError(f"{path}: {int((turns == 0).sum())} rows have no message; build it again")
    texts = compute.struct_field(messages.flatten(), "content")
    characters = compute.fill_null(compute.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
    judged = characters[np.cumsum(turns) - 1]
    kinds, labels = np.array(batch.column("kind").to_pylist()), np.array(batch.column("label").to_pylist())
    for kind, label in sorted(set(zip(kinds.tolist(), labels.tolist(), strict=True))):
        values, counts = np.unique(judged[(kinds == kind) & (labels == label)], return_counts=True)
        yield (kind, label), dict(zip(values.tolist(), counts.tolist(), strict=True))


def _clusters(clusters: dict[str, Any]) -> tuple[Counter[int], dict[tuple[str, str], int]]:
    """Clusters by number of rows, and the number of clusters that each two splits share."""
    shared = {}
    for first, second in itertools.combinations(clusters, 2):
        if both := len(np.intersect1d(clusters[first][0], clusters[second][0], assume_unique=True)):
            shared[first, second] = both
    names = np.concatenate([of_split for of_split, _ in clusters.values()] or [hash_texts(())])
    counts = np.concatenate([of_split for _, of_split in clusters.values()] or [np.zeros(0, np.int64)])
    _, inverse = np.unique(names, return_inverse=True)
    sizes = np.bincount(inverse, weights=counts).astype(np.int64)
    return Counter(sizes.tolist()), shared


def _drops(path: Path) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    drops: Counter[tuple[str, str]] = Counter()
    rules: Counter[tuple[str, str]] = Counter()
    for batch in batches(path, ("source", "reason"), ("detail",)):
        reasons = batch.column("reason").to_pylist()
        drops.update(zip(batch.column("source").to_pylist(), reasons, strict=True))
        if "detail" in batch.schema.names:
            details = batch.column("detail").to_pylist()
            rules.update((reason, rule) for reason, rule in zip(reasons, details, strict=True) if _is_rule(rule))
    return drops, rules


def _is_rule(detail: str | None) -> bool:
    """Whether the detail of a drop is a rule, and not the id of the row that it duplicates."""
    return bool(detail) and not (len(detail or "") == 16 and set(detail or "") <= set("0123456789abcdef"))


def _pairs(dataset: Dataset) -> Counter[PairGroup]:
    pairs: Counter[PairGroup] = Counter()
    for name, path in dataset.pairs.items():
        for batch in batches(path, ("source", "language", "licence")):
            columns = (batch.column(key).to_pylist() for key in ("source", "language", "licence"))
            pairs.update(PairGroup(name, *values) for values in zip(*columns, strict=True))
    return pairs


def quantiles(lengths: Counter[int], shares: Iterable[float]) -> list[int]:
    """For each of `shares` in (0, 1] the smallest length that at least this share of the rows does not exceed."""
    values = sorted(lengths)
    cumulative = np.cumsum([lengths[value] for value in values])
    return [values[int(np.searchsorted(cumulative, share * cumulative[-1]))] for share in shares]


def largest(counts: Counter[Key], at_most: int | None = None) -> list[tuple[Key, int]]:
    """Keys and counts, sorted by decreasing count, ties by key."""
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:at_most]


def by_rows(counts: Counter[tuple[str, str]]) -> list[str]:
    """The distinct first parts of the keys, sorted by decreasing rows."""
    totals: Counter[str] = Counter()
    for (name, _), rows in counts.items():
        totals[name] += rows
    return [name for name, _ in largest(totals)]
