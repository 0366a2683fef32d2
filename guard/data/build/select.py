"""Selection: which rows of a build are kept, why the others are dropped, and each row's cluster, split and weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.data.build import columns, dedupe, mix
from guard.data.build.cluster import clusters
from guard.data.build.columns import Columns
from guard.data.build.config import BuildConfig, SourceUse
from guard.data.build.row_index import KINDS, RowIndex, Signatures
from guard.data.build.split import split_of, unit_hash
from guard.data.row import LABELS, Rule
from guard.data.sources.description import Source
from guard.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT, OVER_CAP, OVER_CATEGORY_CAP = "", "over cap", "over category cap"
REASONS = (KEPT, dedupe.CONFLICT, dedupe.DUPLICATE, dedupe.NEAR, OVER_CAP, OVER_CATEGORY_CAP)
DEVELOPMENT = "development"
SPLITS = ("train", "dev", "test", DEVELOPMENT)


@dataclass(frozen=True, slots=True, repr=False)
class Selection:
    """One entry per row of the index: `reason` (index into REASONS), `duplicate_of` (the row that it repeats, or
    itself), `cluster` (its smallest row id), `split` (index into SPLITS) and `weight`: of a row of a rule, that of its
    source, as mixing is for rows of the whole policy."""

    reason: NDArray[np.int8]
    duplicate_of: NDArray[np.int64]
    cluster: NDArray[np.uint64]
    split: NDArray[np.int8]
    weight: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self.reason == 0
        return kept


def select_rows(
    index: RowIndex,
    settings: BuildConfig,
    sources: Sequence[Source],
    prompts: Signatures,
    judged: Signatures,
    rules: Mapping[int, Rule],
) -> Selection:
    """The selection over all rows; `sources` and `rules` (by key) are those of the index.

    Depends on nothing but its arguments. ConfigError if no rule is of a domain that is set aside for development.
    """
    import numpy as np

    development = _development(index, settings, [source.name for source in sources], rules)
    reason = np.zeros(len(index), dtype=np.int8)
    duplicate_of = np.arange(len(index))

    def drop(rows: NDArray[np.int64], why: str, kept: NDArray[np.int64] | None = None) -> None:
        reason[rows] = REASONS.index(why)
        if kept is not None:
            duplicate_of[rows] = kept

    conflict, first = dedupe.duplicates(index.key, index.label)
    drop(np.flatnonzero(conflict), dedupe.CONFLICT)
    repeated = np.flatnonzero(~conflict & (first != duplicate_of))
    drop(repeated, dedupe.DUPLICATE, first[repeated])
    cluster = clusters(index.prompt_key, index.group_rows, index.group_keys, prompts.array)
    prompts.release()
    if settings.near_duplicates is not None:
        remaining = np.flatnonzero((reason == 0) & ~development)  # dev sets stay as published
        classes = (cluster[remaining] * len(LABELS) + index.label[remaining]) * len(KINDS) + index.kind[remaining]
        keys, rule = np.unique(index.rule_key[remaining], return_inverse=True)
        classes = (classes * len(keys) + rule) * 2 + index.instructed[remaining]
        kept = dedupe.near_duplicates(remaining, judged.array, classes, settings.near_duplicates)
        drop(remaining[kept != remaining], dedupe.NEAR, kept[kept != remaining])
        judged.release()
    uses = settings.uses
    for source, name in enumerate(source.name for source in sources):
        rows = np.flatnonzero((reason == 0) & (index.source == source))
        cap = uses[name].cap if name in uses else None
        if cap is not None and len(rows) > cap:
            drop(rows[_ranks(index, rows, settings.seed, "cap").argsort(kind="stable")[cap:]], OVER_CAP)
    remaining = np.flatnonzero((reason == 0) & ~development)
    if settings.mixing.category_caps and len(remaining):
        drop(remaining[~_within_caps(index, remaining, settings)], OVER_CATEGORY_CAP)
    named = _cluster_names(index, cluster)
    split = _splits(named, settings, development)
    columns_of = _columns(index, sources, settings, (reason == 0) & (split == 0) & (index.rule_key == 0))
    weight = np.where(index.rule_key == 0, mix.weights(columns_of, settings.mixing), columns_of.base)
    return Selection(reason, duplicate_of, named, split, weight)


def _development(
    index: RowIndex, settings: BuildConfig, names: Sequence[str], rules: Mapping[int, Rule]
) -> NDArray[np.bool_]:
    """[rows]: whether the row is of a development source, or of a rule whose domain is set aside."""
    import numpy as np

    domains = {rule.domain for rule in rules.values()}
    if unknown := [domain for domain in settings.rules.development if domain not in domains]:
        raise ConfigError(
            f"rules.development: no rule is of the domain {unknown[0]!r}; the sources have: "
            f"{', '.join(sorted(domains)) or 'none'}"
        )
    aside = [key for key, rule in rules.items() if rule.domain in settings.rules.development]
    sources = np.array([name in settings.development for name in names])[index.source]
    return np.asarray(sources | np.isin(index.rule_key, np.array(aside, dtype=np.uint64)))


def _within_caps(index: RowIndex, rows: NDArray[np.int64], settings: BuildConfig) -> NDArray[np.bool_]:
    """Which of the sorted `rows` the category caps have room for."""
    import numpy as np

    position = np.searchsorted(rows, index.category_rows).clip(max=len(rows) - 1)
    present = (rows[position] == index.category_rows) & (index.label[index.category_rows] == LABELS.index("unsafe"))
    codes = columns.Column(index.codes, index.category_codes[present])
    ranks = _ranks(index, rows, settings.seed, "category cap")
    return mix.within_caps(position[present], codes, ranks, settings.mixing.category_caps)


def _columns(index: RowIndex, sources: Sequence[Source], settings: BuildConfig, train: NDArray[np.bool_]) -> Columns:
    import numpy as np

    uses = settings.uses
    base = np.array([uses[source.name].weight if source.name in uses else 1.0 for source in sources])[index.source]
    for source, name in enumerate(source.name for source in sources):
        use = uses.get(name)
        for label, factor in use.labels.items() if isinstance(use, SourceUse) else ():
            base[(index.source == source) & (index.label == LABELS.index(label))] *= factor
    labelled = index.label < LABELS.index("unlabelled")
    of = {
        "source": columns.Column(tuple(source.name for source in sources), index.source),
        "kind": columns.Column(KINDS, index.kind),
        "language": columns.Column(index.languages, index.language),
        "length": columns.lengths(index.characters),
    }
    for name in ("role", "licence"):
        by_source = columns.encode(getattr(source, name) for source in sources)
        of[name] = columns.Column(by_source.values, by_source.codes[index.source])
    return Columns(
        labels=np.where(labelled, index.label, columns.NO_LABEL).astype(np.int8),
        counted=train & labelled,
        base=base,
        of=of,
    )


def _ranks(index: RowIndex, rows: NDArray[np.int64], seed: int, purpose: str) -> NDArray[np.float64]:
    import numpy as np

    ids = index.id[rows].tolist()
    return np.fromiter((unit_hash(seed, purpose, f"{id:016x}") for id in ids), dtype=np.float64, count=len(rows))


def _cluster_names(index: RowIndex, cluster: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The smallest row id in the cluster of each row: a name that does not depend on the row order."""
    import numpy as np

    heads, member = np.unique(cluster, return_inverse=True)
    smallest = np.full(len(heads), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, member, index.id)
    return np.asarray(smallest[member], dtype=np.uint64)


def _splits(cluster: NDArray[np.uint64], settings: BuildConfig, development: NDArray[np.bool_]) -> NDArray[np.int8]:
    import numpy as np

    clusters, member = np.unique(cluster, return_inverse=True)
    splits = (SPLITS.index(split_of(f"{name:016x}", settings.shares, settings.seed)) for name in clusters.tolist())
    by_cluster = np.fromiter(splits, dtype=np.int8, count=len(clusters))
    return np.where(development, np.int8(SPLITS.index(DEVELOPMENT)), by_cluster[member])
