"""Samples of a build: rows that match a filter, chosen by a seeded hash of their ids, so that all agree on them."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard.data.build.write import DROPS
from guard.data.dataset.open import batches, columns, hashes, open_built, rows_at
from guard.errors import DataError, need

PAIR = "pair"
_DROPS = Path(DROPS).stem
_LISTED = 60  # values that a message names


@dataclass(frozen=True, slots=True)
class Filter:
    """What rows must be to be shown; None is anything. `reason` is of dropped rows only."""

    split: str | None = None
    source: str | None = None
    label: str | None = None
    category: str | None = None
    kind: str | None = None
    language: str | None = None
    reason: str | None = None
    id: str | None = None

    def of(self, *fields: str) -> dict[str, str]:
        """Those of `fields` that are not None."""
        told = ((field, getattr(self, field)) for field in fields)
        return {field: value for field, value in told if value is not None}


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """One row. `messages` are (role, content); of a pair the last two are the preferred and the rejected answer.

    characters: of the judged turn, of a pair of the preferred answer. cluster_rows: how many rows share the cluster.
    """

    id: str
    split: str
    source: str
    label: str
    categories: tuple[str, ...]
    undecided: tuple[str, ...]
    language: str
    kind: str
    characters: int
    cluster: str
    cluster_rows: int
    weight: float
    licence: str
    messages: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """One row that was left out: its text is not kept, `place` says where it was read."""

    source: str
    id: str
    place: str
    reason: str
    detail: str


def files(path: Path) -> dict[str, Path]:
    """The parquet files of a build by name without suffix, or the one file `path`; DataError if it is neither."""
    if path.is_dir():
        built = open_built(path)
        dropped = {} if built.drops is None else {built.drops.stem: built.drops}
        return {**built.labelled, **built.pairs, **dropped}
    if path.suffix != ".parquet" or not path.is_file():
        raise DataError(f"{path}: is no folder and no parquet file; give a build's folder, or one file of it")
    return {path.stem: path}


def sample(found: Mapping[str, Path], wanted: Filter, count: int, seed: int) -> list[Sample]:
    """At most `count` rows of the files `found` that are as `wanted`; the first ones stay if `count` grows.

    Pairs are among them only if `wanted` asks for their kind, their file, or an id. DataError for a file without such a
    column, and where a value of the filter does not occur at all.
    """
    chosen = {name: path for name, path in found.items() if _is_asked_for(name, path, wanted)}
    if wanted.split is not None and not chosen:
        raise DataError(f"there is no {wanted.split!r} here{_near(wanted.split, found.keys() - {_DROPS})}")
    picked = _pick(chosen, wanted.of("source", "label", "category", "kind", "language", "id"), count, seed)
    rows = {name: rows_at(chosen[name], {row for its, row in picked if its == name}) for name in {n for n, _ in picked}}
    clusters = _cluster_rows(found, {rows[name][row]["cluster"] for name, row in picked})
    return [_sample(name, rows[name][row], clusters) for name, row in picked]


def sample_drops(found: Mapping[str, Path], wanted: Filter, count: int, seed: int) -> list[Dropped]:
    """At most `count` dropped rows as `wanted`: by source, reason and id. DataError if the build kept no list."""
    if _DROPS not in found:
        raise DataError(f"there is no {DROPS} here (there are: {', '.join(found)}); give the folder of a build")
    picked = _pick({_DROPS: found[_DROPS]}, wanted.of("source", "reason", "id"), count, seed)
    rows = rows_at(found[_DROPS], {row for _, row in picked})
    fields = [field.name for field in dataclasses.fields(Dropped)]
    return [Dropped(**{field: rows[row].get(field) or "" for field in fields}) for _, row in picked]


def _is_asked_for(name: str, path: Path, wanted: Filter) -> bool:
    if name == _DROPS:
        return False
    if wanted.split is not None:
        return name == wanted.split
    return (wanted.kind == PAIR or wanted.id is not None) or "messages" in columns(path)


def _pick(found: Mapping[str, Path], wanted: Mapping[str, str], count: int, seed: int) -> list[tuple[str, int]]:
    """(file, row) of the matching rows of smallest seeded hash, in its order."""
    best: list[tuple[int, str, int]] = []
    seen: dict[str, Counter[str]] = {field: Counter() for field in wanted}
    for name, path in found.items():
        start = 0
        for batch in _batches(path, wanted):
            match = np.ones(batch.num_rows, dtype=bool)
            for field, value in wanted.items():
                match &= _matches(batch, field, value, seen[field])
            rows = np.flatnonzero(match)
            ids = batch.column("id").take(need("pyarrow", "data").array(rows)).to_pylist()
            ranks = hashes(f"{seed}\0{id}" for id in ids)
            first = np.argsort(ranks, kind="stable")[:count]
            best += [(int(ranks[place]), name, start + int(rows[place])) for place in first]
            best = sorted(best)[:count]
            start += batch.num_rows
    if not best:
        _check_values(wanted, seen)
    return [(name, row) for _, name, row in best]


def _batches(path: Path, wanted: Mapping[str, str]) -> Iterator[Any]:
    present = columns(path)
    fields = ["categories" if field == "category" else field for field in wanted]
    named = [field for field in fields if field in present or field not in ("kind", "label", "categories")]
    extra = ["label"] if "category" in wanted and "label" in present else []
    yield from batches(path, list(dict.fromkeys(["id", *named, *extra])))


def _matches(batch: Any, field: str, value: str, seen: Counter[str]) -> Any:
    """Whether each row has the value; the values of all rows are added to `seen`."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    name = "categories" if field == "category" else field
    if name not in batch.schema.names:  # pairs have no label and no kind of their own
        own = PAIR if field == "kind" else ""
        seen[own] += batch.num_rows
        return np.full(batch.num_rows, own == value)
    column = batch.column(name)
    values = column.flatten() if field == "category" else column
    if field != "id":
        seen.update({told["values"]: told["counts"] for told in compute.value_counts(values).to_pylist()})
    equal = compute.fill_null(compute.equal(values, arrow.scalar(value)), False).to_numpy(zero_copy_only=False)
    if field != "category":
        return equal
    match = np.zeros(batch.num_rows, dtype=bool)
    match[compute.list_parent_indices(column).to_numpy()[equal]] = True
    return match


def _check_values(wanted: Mapping[str, str], seen: Mapping[str, Counter[str]]) -> None:
    """DataError naming the values there are, where one of the filter does not occur at all."""
    if "id" in wanted:
        return
    for field, value in wanted.items():
        if value not in seen[field]:
            raise DataError(f"no row has the {field} {value!r}{_near(value, filter(None, seen[field]))}")


def _near(value: str, known: Any) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{hint} (there are: {', '.join(names[:_LISTED]) or 'none'}{more})"


def _cluster_rows(found: Mapping[str, Path], clusters: set[str]) -> Counter[str]:
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    counts: Counter[str] = Counter()
    wanted = arrow.array(sorted(clusters), arrow.string())
    for name, path in found.items():
        if clusters and name != _DROPS:
            for batch in batches(path, ["cluster"]):
                column = batch.column("cluster")
                counts.update(column.filter(compute.is_in(column, value_set=wanted)).to_pylist())
    return counts


def _sample(name: str, row: Mapping[str, Any], clusters: Mapping[str, int]) -> Sample:
    pair = "messages" not in row
    turns = [(turn["role"], turn["content"]) for turn in row["prompt" if pair else "messages"]]
    if pair:
        turns += [("assistant, preferred", row["chosen"]), ("assistant, rejected", row["rejected"])]
    return Sample(
        id=row["id"],
        split=name,
        source=row["source"],
        label=row.get("label") or "",
        categories=tuple(row.get("categories") or ()),
        undecided=tuple(row.get("undecided") or ()),
        language=row["language"],
        kind=PAIR if pair else row["kind"],
        characters=len(row["chosen"]) if pair else len(turns[-1][1]) if turns else 0,
        cluster=row["cluster"],
        cluster_rows=clusters[row["cluster"]],
        weight=row["weight"],
        licence=row["licence"],
        messages=tuple(turns),
    )


def printable(text: str, at_most: int) -> str:
    """The first characters of a text, safe for a terminal: what would not print, or would steer it, is escaped.

    Line breaks stay. What is left out is counted at the end.
    """
    left_out = len(text) - at_most
    shown = "".join(sign if sign.isprintable() or sign == "\n" else _escaped(sign) for sign in text[:at_most])
    return shown if left_out <= 0 else f"{shown} … {left_out:,} characters left out"


def _escaped(sign: str) -> str:
    point = ord(sign)
    named = {"\t": "\\t", "\r": "\\r"}
    return named.get(sign) or (
        f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
    )
