"""What differs between two builds: settings, sources, and every row that came, went, changed or moved."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guard.data.dataset import row_hash
from guard.data.dataset.open import Built, Manifest, Part
from guard.data.dataset.row_hash import Keyed, State
from guard.policy import natural

NOT_READ = "not read with this text"  # the raw files changed, or what cleaning makes of the text
NOT_USED, NO_LIST = "source not used", "not known, there is no list of drops"
TRAIN = "train"
_SAME_WEIGHT = 1e-9  # relative
_FACTOR = 1e-6  # how alike two quotients of weights are that count as one


@dataclass(frozen=True, slots=True)
class Move:
    """Rows that both builds hold, in different splits, and the clusters of the one split that the other holds too."""

    before: str
    after: str
    rows: int
    clusters: int

    @property
    def leaks(self) -> bool:
        """Whether what one build trains on is held out in the other."""
        return (self.before == TRAIN) != (self.after == TRAIN)


@dataclass(frozen=True, slots=True)
class Weights:
    """How many rows weigh something else, and by which factor, if it is one for all rows."""

    rows: int = 0
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """From build A to build B; empty where they are equal.

    rows: in A and B. settings, policy: the values in A and B by key, None where there is none. sources: what is new,
    gone or other about each. files: those of other bytes. removed, added: rows by (source, reason why the other build
    lacks them). changed: rows by (value in A, value in B) of each field. totals: rows in A and B by value, where they
    differ. ids: some of each group of rows, if they were asked for.
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
    weights: Weights
    moves: tuple[Move, ...]
    totals: dict[str, dict[str, tuple[int, int]]]
    ids: dict[str, tuple[str, ...]]

    @property
    def equal(self) -> bool:
        """Whether the builds were made the same way and hold the same bytes."""
        told = (self.settings, self.policy, self.sources, self.files, self.removed, self.added, self.changed)
        return not any(told) and not self.weights.rows


def diff(a: Built, b: Built, show_ids: int = 0) -> Diff:
    """What differs from `a` to `b`, with up to `show_ids` ids of each group of rows.

    Memory: 28 bytes a row, and twice that while a build is read. DataError if a file is damaged.
    """
    known: dict[State, int] = {}
    ours, theirs = row_hash.read(a, known), row_hash.read(b, known)
    states = list(known)
    _, at, to = np.intersect1d(ours.keys, theirs.keys, assume_unique=True, return_indices=True)
    left, new = np.delete(np.arange(len(ours)), at), np.delete(np.arange(len(theirs)), to)
    changes = {field: found for field in State._fields if len(found := _changed(ours, theirs, at, to, states, field))}
    groups = {"only in A": (a, ours.keys[left]), "only in B": (b, theirs.keys[new])}
    groups |= {f"changed {field}": (b, theirs.keys[to[found]]) for field, found in changes.items()}
    return Diff(
        digests=(a.manifest.data_digest, b.manifest.data_digest),
        rows=(len(ours), len(theirs)),
        both=len(at),
        settings=_differing(dict(_flat(a.manifest.config)), dict(_flat(b.manifest.config))),
        policy=_differing(*(dataclasses.asdict(build.manifest.policy) for build in (a, b))),
        sources=_sources(a.manifest, b.manifest),
        files=tuple(_differing(a.manifest.files, b.manifest.files)),
        removed=_lacking(ours, left, states, b),
        added=_lacking(theirs, new, states, a),
        changed={
            field: _pairs(ours.states[at[found]], theirs.states[to[found]], states, field)
            for field, found in changes.items()
        },
        weights=_weights(ours.weights[at], theirs.weights[to]),
        moves=tuple(_moves(ours, theirs, at, to, states)),
        totals=_totals(ours, theirs, states),
        ids={
            name: tuple(row_hash.ids(build, keys[:show_ids]))
            for name, (build, keys) in groups.items()
            if show_ids and len(keys)
        },
    )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by dotted key; entries of a list that have a name go by it, and their order is a setting too."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(entry, dict) and _name(entry) for entry in value):
        yield key, [_name(entry) for entry in value]
        for entry in value:
            yield from _flat(entry, f"{key}.{_name(entry)}")
    else:
        yield key, value


def _name(entry: dict[str, Any]) -> str | None:
    name = entry.get("source", entry.get("name"))
    return name if isinstance(name, str) else None


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _sources(a: Manifest, b: Manifest) -> dict[str, tuple[str, ...]]:
    ours, theirs = ({part.name: part for part in manifest.sources} for manifest in (a, b))
    found: dict[str, tuple[str, ...]] = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name not in theirs:
            found[name] = ("removed",)
        elif name not in ours:
            found[name] = ("added",)
        elif told := tuple(_source(ours[name], theirs[name])):
            found[name] = told
    return found


def _source(old: Part, new: Part) -> Iterator[str]:
    for field in ("title", "upstream", "commit", "licence", "attribution", "role", "cautions"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield field if field == "cautions" else f"{field} {before or 'none'} → {after or 'none'}"
    if files := _differing(old.files, new.files):
        yield f"{len(files)} raw files differ"


def _changed(
    ours: Keyed, theirs: Keyed, at: NDArray[np.intp], to: NDArray[np.intp], states: Sequence[State], field: str
) -> NDArray[np.intp]:
    """Which of the rows in both builds have another value of `field`."""
    values: dict[Any, int] = {}
    codes = np.array([values.setdefault(getattr(state, field), len(values)) for state in states], dtype=np.int32)
    return np.flatnonzero(codes[ours.states[at]] != codes[theirs.states[to]]) if states else np.zeros(0, np.intp)


def _pairs(
    old: NDArray[np.int32], new: NDArray[np.int32], states: Sequence[State], field: str
) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    both, rows = np.unique(np.stack([old, new]), axis=1, return_counts=True)
    for before, after, count in zip(*both.tolist(), rows.tolist(), strict=True):
        counts[_told(getattr(states[before], field)), _told(getattr(states[after], field))] += count
    return counts


def _told(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "none"


def _lacking(rows: Keyed, places: NDArray[np.intp], states: list[State], other: Built) -> Counter[tuple[str, str]]:
    """The rows at `places`, which `other` lacks, by source and the reason why."""
    used = {part.name for part in other.manifest.sources}
    dropped = row_hash.drops(other)
    codes = np.full(len(places), -1) if dropped is None else dropped.of(row_hash.id_hashes(rows, places, states))
    counts: Counter[tuple[str, str]] = Counter()
    both, found = np.unique(np.stack([rows.states[places], codes]), axis=1, return_counts=True)
    for state, code, count in zip(*both.tolist(), found.tolist(), strict=True):
        source = states[state].source
        if source not in used:
            reason = NOT_USED
        elif dropped is None:
            reason = NO_LIST
        else:
            reason = dropped.reasons[code] if code >= 0 else NOT_READ
        counts[source, reason] += count
    return counts


def _weights(old: NDArray[np.float64], new: NDArray[np.float64]) -> Weights:
    other = ~np.isclose(old, new, rtol=_SAME_WEIGHT, atol=0.0)
    if not other.any():
        return Weights()
    if not other.all() or (old <= 0).any():
        return Weights(int(other.sum()))
    factors = new / old
    same = np.isclose(factors, factors[0], rtol=_FACTOR, atol=0.0).all()
    return Weights(len(old), float(factors[0]) if same else None)


def _moves(
    ours: Keyed, theirs: Keyed, at: NDArray[np.intp], to: NDArray[np.intp], states: Sequence[State]
) -> Iterator[Move]:
    names = list(dict.fromkeys(state.split for state in states))
    split = np.array([names.index(state.split) for state in states], dtype=np.int8)
    before, after = split[ours.states], split[theirs.states]
    for first, old in enumerate(names):
        for second, new in enumerate(names):
            moved = (before[at] == first) & (after[to] == second)
            if first == second:
                continue
            kept = np.intersect1d(ours.clusters[before == first], theirs.clusters[after == second])
            clusters = np.union1d(kept, ours.clusters[at[moved]])
            if len(clusters):
                yield Move(old, new, int(moved.sum()), len(clusters))


def _totals(ours: Keyed, theirs: Keyed, states: Sequence[State]) -> dict[str, dict[str, tuple[int, int]]]:
    counts = [np.bincount(rows.states, minlength=len(states)).tolist() for rows in (ours, theirs)]
    totals: dict[str, dict[str, tuple[int, int]]] = {}
    for field in State._fields:
        a: Counter[str] = Counter()
        b: Counter[str] = Counter()
        for state, old, new in zip(states, *counts, strict=True):
            value = getattr(state, field)
            for each in (value,) if isinstance(value, str) else value or ("none",):
                a[each or "none"] += old
                b[each or "none"] += new
        differ = {key: (a[key], b[key]) for key in sorted(a.keys() | b.keys(), key=natural) if a[key] != b[key]}
        if differ:
            totals[field] = differ
    return totals


def as_dict(found: Diff) -> dict[str, Any]:
    """The differences as plain data, for JSON."""

    def counted(counts: Counter[tuple[str, str]], first: str, second: str) -> list[dict[str, Any]]:
        return [{first: key[0], second: key[1], "rows": rows} for key, rows in sorted(counts.items())]

    return {
        "equal": found.equal,
        **{field: getattr(found, field) for field in ("digests", "rows", "both", "settings", "policy", "sources")},
        "files": found.files,
        "removed": counted(found.removed, "source", "reason"),
        "added": counted(found.added, "source", "reason"),
        "changed": {field: counted(counts, "before", "after") for field, counts in found.changed.items()},
        "weights": dataclasses.asdict(found.weights),
        "moves": [{**dataclasses.asdict(move), "leaks": move.leaks} for move in found.moves],
        "totals": found.totals,
        "ids": found.ids,
    }
