"""Placement: which rows of a build are kept, why the others are not, and each one's cluster, split and weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.data.build import columns, dedupe, mix
from guard.data.build.cluster import clusters
from guard.data.build.columns import Columns
from guard.data.build.config import BuildConfig
from guard.data.build.row_index import KINDS, Signatures, Table
from guard.data.build.split import split_of, unit_hash
from guard.data.row import LABELS
from guard.data.sources.description import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT, OVER_CAP, OVER_CATEGORY_CAP = "", "over cap", "over category cap"
REASONS = (KEPT, dedupe.CONFLICT, dedupe.DUPLICATE, dedupe.NEAR, OVER_CAP, OVER_CATEGORY_CAP)
DEVELOPMENT = "development"
SPLITS = ("train", "dev", "test", DEVELOPMENT)


@dataclass(frozen=True, slots=True, repr=False)
class Placement:
    """One entry a row of the table: `reason` (index into REASONS), `stays` (the row that it repeats, else itself),
    `cluster` (its smallest row id), `split` (index into SPLITS) and `weight`."""

    reason: NDArray[np.int8]
    stays: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    split: NDArray[np.int8]
    weight: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self.reason == 0
        return kept


def place(
    table: Table, settings: BuildConfig, sources: Sequence[Source], prompts: Signatures, judged: Signatures
) -> Placement:
    """The placement of every row; `sources` are those of the table. Depends on nothing but its arguments."""
    import numpy as np

    names = [source.name for source in sources]
    reason = np.zeros(len(table), dtype=np.int8)
    stays = np.arange(len(table))

    def drop(rows: NDArray[np.int64], why: str, instead: NDArray[np.int64] | None = None) -> None:
        reason[rows] = REASONS.index(why)
        if instead is not None:
            stays[rows] = instead

    conflict, first = dedupe.duplicates(table.key, table.label)
    drop(np.flatnonzero(conflict), dedupe.CONFLICT)
    repeated = np.flatnonzero(~conflict & (first != stays))
    drop(repeated, dedupe.DUPLICATE, first[repeated])
    cluster = clusters(table.prompt_key, table.group_rows, table.group_keys, prompts.array)
    prompts.release()
    if settings.near_duplicates is not None:
        left = np.flatnonzero((reason == 0) & ~_held(table, settings, names))  # a development set stays as it is made
        classes = (cluster[left] * len(LABELS) + table.label[left]) * len(KINDS) + table.kind[left]
        same = dedupe.near_duplicates(left, judged.array, classes, settings.near_duplicates)
        drop(left[same != left], dedupe.NEAR, same[same != left])
        judged.release()
    uses = settings.uses
    for source, name in enumerate(names):
        own = np.flatnonzero((reason == 0) & (table.source == source))
        cap = uses[name].cap if name in uses else None
        if cap is not None and len(own) > cap:
            drop(own[_ranks(table, own, settings.seed, "cap").argsort(kind="stable")[cap:]], OVER_CAP)
    left = np.flatnonzero((reason == 0) & ~_held(table, settings, names))
    if settings.mixing.category_caps and len(left):
        drop(left[~_within_caps(table, left, settings)], OVER_CATEGORY_CAP)
    named = _cluster_names(table, cluster)
    split = _splits(table, named, settings, names)
    weight = mix.weights(_columns(table, sources, settings, (reason == 0) & (split == 0)), settings.mixing)
    return Placement(reason, stays, named, split, weight)


def _held(table: Table, settings: BuildConfig, names: Sequence[str]) -> NDArray[np.bool_]:
    import numpy as np

    return np.array([name in settings.development for name in names])[table.source]


def _within_caps(table: Table, rows: NDArray[np.int64], settings: BuildConfig) -> NDArray[np.bool_]:
    """Which of the sorted `rows` the category caps have room for."""
    import numpy as np

    place = np.searchsorted(rows, table.category_rows).clip(max=len(rows) - 1)
    listed = (rows[place] == table.category_rows) & (table.label[table.category_rows] == LABELS.index("unsafe"))
    codes = columns.Column(table.codes, table.category_codes[listed])
    ranks = _ranks(table, rows, settings.seed, "category cap")
    return mix.within_caps(place[listed], codes, ranks, settings.mixing.category_caps)


def _columns(table: Table, sources: Sequence[Source], settings: BuildConfig, train: NDArray[np.bool_]) -> Columns:
    import numpy as np

    uses = settings.uses
    base = np.array([uses[source.name].weight if source.name in uses else 1.0 for source in sources])
    labelled = table.label < LABELS.index("unlabelled")
    source = columns.Column(tuple(one.name for one in sources), table.source)
    of = {
        "source": source,
        "kind": columns.Column(KINDS, table.kind),
        "language": columns.Column(table.languages, table.language),
        "length": columns.lengths(table.characters),
    }
    for name in ("role", "licence"):
        told = columns.encode(getattr(one, name) for one in sources)
        of[name] = columns.Column(told.values, told.codes[table.source])
    return Columns(
        labels=np.where(labelled, table.label, columns.NO_LABEL).astype(np.int8),
        counted=train & labelled,
        base=base[table.source],
        of=of,
    )


def _ranks(table: Table, rows: NDArray[np.int64], seed: int, purpose: str) -> NDArray[np.float64]:
    import numpy as np

    ids = table.id[rows].tolist()
    return np.fromiter((unit_hash(seed, purpose, f"{id:016x}") for id in ids), dtype=np.float64, count=len(rows))


def _cluster_names(table: Table, cluster: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The smallest row id in the cluster of each row: a name that does not depend on the order of the rows."""
    import numpy as np

    heads, member = np.unique(cluster, return_inverse=True)
    smallest = np.full(len(heads), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, member, table.id)
    return np.asarray(smallest[member], dtype=np.uint64)


def _splits(table: Table, cluster: NDArray[np.uint64], settings: BuildConfig, names: Sequence[str]) -> NDArray[np.int8]:
    import numpy as np

    clusters, member = np.unique(cluster, return_inverse=True)
    splits = (SPLITS.index(split_of(f"{name:016x}", settings.shares, settings.seed)) for name in clusters.tolist())
    by_cluster = np.fromiter(splits, dtype=np.int8, count=len(clusters))
    return np.where(_held(table, settings, names), np.int8(SPLITS.index(DEVELOPMENT)), by_cluster[member])
