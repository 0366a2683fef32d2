"""The differences between two data sets: settings, sources, and rows that were added, removed, changed or moved."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guard.data.dataset import row_hash
from guard.data.dataset.open import Dataset, Manifest, SourceEntry
from guard.data.dataset.row_hash import HashedRows, RowState
from guard.policy import natural

NOT_READ = "not read with this text"  # the raw files, or the cleaning of the text, changed
NOT_USED, NO_LIST = "source not used", "unknown, there is no list of drops"
TRAIN = "train"
_SAME_WEIGHT = 1e-9  # relative tolerance
_SAME_FACTOR = 1e-6  # relative tolerance of ratios of weights


@dataclass(frozen=True, slots=True)
class Move:
    """Rows of both data sets that changed their split, and the clusters of split `before` that are now in `after`."""

    before: str
    after: str
    rows: int
    clusters: int

    @property
    def leaks(self) -> bool:
        """Whether one data set trains on what the other holds out."""
        return (self.before == TRAIN) != (self.after == TRAIN)


@dataclass(frozen=True, slots=True)
class WeightChange:
    """The number of rows whose weight changed, and the factor if it is the same for all rows."""

    rows: int = 0
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """The differences from data set A to data set B; empty where they are equal.

    rows: in A and B. settings, policy: the values in A and B by key, None where a key is missing. sources: the changes
    of each. files: those whose bytes differ. removed, added: rows by (source, reason why the other data set lacks
    them). changed: rows by (value in A, value in B), per field. totals: rows in A and B by value, where they differ.
    ids: examples of each group of rows, if requested.
    """

    digests: tuple[str, str]
    rows: tuple[int, int]
    both: int
    settings: dict[str, tuple[Any, Any]]
    policy: dict[str, tuple[Any, Any]]
    sources: dict[str, tuple[str, ...]]
    files: tuple[str, ...]
    removed: Counter[tuple[str, str]]
    added: Counter[tuple[str, str]]
    changed: dict[str, Counter[tuple[str, str]]]
    weights: WeightChange
    moves: tuple[Move, ...]
    totals: dict[str, dict[str, tuple[int, int]]]
    ids: dict[str, tuple[str, ...]]

    @property
    def equal(self) -> bool:
        """Whether the data sets were built the same way and hold the same bytes."""
        differences = (self.settings, self.policy, self.sources, self.files, self.removed, self.added, self.changed)
        return not any(differences) and not self.weights.rows


def diff(a: Dataset, b: Dataset, show_ids: int = 0) -> Diff:
    """The differences from `a` to `b`, with up to `show_ids` ids of each group of rows.

    Memory: 28 bytes per row, and twice that while a data set is read. DataError if a file is damaged.
    """
    codes: dict[RowState, int] = {}
    old, new = row_hash.read_rows(a, codes), row_hash.read_rows(b, codes)
    states = list(codes)
    # Row `at[i]` of the old data set is row `to[i]` of the new one.
    _, at, to = np.intersect1d(old.keys, new.keys, assume_unique=True, return_indices=True)
    removed, added = np.delete(np.arange(len(old)), at), np.delete(np.arange(len(new)), to)
    changes = {
        field: changed
        for field in RowState._fields
        if len(changed := _changed(old.states[at], new.states[to], states, field))
    }
    groups = {"only in A": (a, old.keys[removed]), "only in B": (b, new.keys[added])}
    groups |= {f"changed {field}": (b, new.keys[to[changed]]) for field, changed in changes.items()}
    return Diff(
        digests=(a.manifest.data_digest, b.manifest.data_digest),
        rows=(len(old), len(new)),
        both=len(at),
        settings=_differing(dict(_flatten(a.manifest.config)), dict(_flatten(b.manifest.config))),
        policy=_differing(*(dataclasses.asdict(dataset.manifest.policy) for dataset in (a, b))),
        sources=_source_changes(a.manifest, b.manifest),
        files=tuple(_differing(a.manifest.files, b.manifest.files)),
        removed=_reasons(old, removed, states, b),
        added=_reasons(new, added, states, a),
        changed={
            field: _value_changes(old.states[at[changed]], new.states[to[changed]], states, field)
            for field, changed in changes.items()
        },
        weights=_weight_change(old.weights[at], new.weights[to]),
        moves=tuple(_moves(old, new, at, to, states)),
        totals=_totals(old, new, states),
        ids={
            name: tuple(row_hash.ids_of(dataset, keys[:show_ids]))
            for name, (dataset, keys) in groups.items()
            if show_ids and len(keys)
        },
    )


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by dotted key; named list entries go by their names, and their order is a setting too."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(entry, dict) and _name(entry) for entry in value):
        yield key, [_name(entry) for entry in value]
        for entry in value:
            yield from _flatten(entry, f"{key}.{_name(entry)}")
    else:
        yield key, value


def _name(entry: dict[str, Any]) -> str | None:
    name = entry.get("source", entry.get("name"))
    return name if isinstance(name, str) else None


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _source_changes(a: Manifest, b: Manifest) -> dict[str, tuple[str, ...]]:
    old, new = ({source.name: source for source in manifest.sources} for manifest in (a, b))
    changes: dict[str, tuple[str, ...]] = {}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            changes[name] = ("removed",)
        elif name not in old:
            changes[name] = ("added",)
        elif differences := tuple(_differences(old[name], new[name])):
            changes[name] = differences
    return changes


def _differences(old: SourceEntry, new: SourceEntry) -> Iterator[str]:
    for field in ("title", "upstream", "commit", "licence", "attribution", "role", "cautions"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield field if field == "cautions" else f"{field} {before or 'none'} → {after or 'none'}"
    if files := _differing(old.files, new.files):
        yield f"{len(files)} raw files differ"


def _changed(
    old: NDArray[np.int32], new: NDArray[np.int32], states: Sequence[RowState], field: str
) -> NDArray[np.intp]:
    """The positions at which the value of `field` differs between the states `old` and `new`."""
    values: dict[Any, int] = {}
    codes = np.array([values.setdefault(getattr(state, field), len(values)) for state in states], dtype=np.int32)
    return np.flatnonzero(codes[old] != codes[new]) if states else np.zeros(0, np.intp)


def _value_changes(
    old: NDArray[np.int32], new: NDArray[np.int32], states: Sequence[RowState], field: str
) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    pairs, rows = np.unique(np.stack([old, new]), axis=1, return_counts=True)
    for before, after, count in zip(*pairs.tolist(), rows.tolist(), strict=True):
        counts[_as_text(getattr(states[before], field)), _as_text(getattr(states[after], field))] += count
    return counts


def _as_text(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "none"


def _reasons(
    rows: HashedRows, indices: NDArray[np.intp], states: list[RowState], other: Dataset
) -> Counter[tuple[str, str]]:
    """The rows at `indices`, which `other` lacks, counted by source and reason."""
    used = {source.name for source in other.manifest.sources}
    drops = row_hash.read_drops(other)
    codes = np.full(len(indices), -1) if drops is None else drops.codes_of(row_hash.id_hashes(rows, indices, states))
    counts: Counter[tuple[str, str]] = Counter()
    pairs, row_counts = np.unique(np.stack([rows.states[indices], codes]), axis=1, return_counts=True)
    for state, code, count in zip(*pairs.tolist(), row_counts.tolist(), strict=True):
        source = states[state].source
        if source not in used:
            reason = NOT_USED
        elif drops is None:
            reason = NO_LIST
        else:
            reason = drops.reasons[code] if code >= 0 else NOT_READ
        counts[source, reason] += count
    return counts


def _weight_change(old: NDArray[np.float64], new: NDArray[np.float64]) -> WeightChange:
    changed = ~np.isclose(old, new, rtol=_SAME_WEIGHT, atol=0.0)
    if not changed.any():
        return WeightChange()
    if not changed.all() or (old <= 0).any():
        return WeightChange(int(changed.sum()))
    factors = new / old
    uniform = np.isclose(factors, factors[0], rtol=_SAME_FACTOR, atol=0.0).all()
    return WeightChange(len(old), float(factors[0]) if uniform else None)


def _moves(
    old: HashedRows, new: HashedRows, at: NDArray[np.intp], to: NDArray[np.intp], states: Sequence[RowState]
) -> Iterator[Move]:
    names = list(dict.fromkeys(state.split for state in states))
    split = np.array([names.index(state.split) for state in states], dtype=np.int8)
    before, after = split[old.states], split[new.states]
    for source, target in itertools.permutations(range(len(names)), 2):
        moved = (before[at] == source) & (after[to] == target)
        shared = np.intersect1d(old.clusters[before == source], new.clusters[after == target])
        clusters = np.union1d(shared, old.clusters[at[moved]])
        if len(clusters):
            yield Move(names[source], names[target], int(moved.sum()), len(clusters))


def _totals(old: HashedRows, new: HashedRows, states: Sequence[RowState]) -> dict[str, dict[str, tuple[int, int]]]:
    counts = [np.bincount(rows.states, minlength=len(states)).tolist() for rows in (old, new)]
    totals: dict[str, dict[str, tuple[int, int]]] = {}
    for field in RowState._fields:
        a: Counter[str] = Counter()
        b: Counter[str] = Counter()
        for state, before, after in zip(states, *counts, strict=True):
            value = getattr(state, field)
            for item in (value,) if isinstance(value, str) else value or ("none",):
                a[item or "none"] += before
                b[item or "none"] += after
        differing = {key: (a[key], b[key]) for key in sorted(a.keys() | b.keys(), key=natural) if a[key] != b[key]}
        if differing:
            totals[field] = differing
    return totals


def as_dict(diff: Diff) -> dict[str, Any]:
    """The differences as plain data, for JSON."""

    def entries(counts: Counter[tuple[str, str]], first: str, second: str) -> list[dict[str, Any]]:
        return [{first: key[0], second: key[1], "rows": rows} for key, rows in sorted(counts.items())]

    return {
        "equal": diff.equal,
        **{field: getattr(diff, field) for field in ("digests", "rows", "both", "settings", "policy", "sources")},
        "files": diff.files,
        "removed": entries(diff.removed, "source", "reason"),
        "added": entries(diff.added, "source", "reason"),
        "changed": {field: entries(counts, "before", "after") for field, counts in diff.changed.items()},
        "weights": dataclasses.asdict(diff.weights),
        "moves": [{**dataclasses.asdict(move), "leaks": move.leaks} for move in diff.moves],
        "totals": diff.totals,
        "ids": diff.ids,
    }
