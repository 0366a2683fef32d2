"""Samples of a data set: rows that match a filter, ordered by a seeded hash of their ids, so that they are stable."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard.data.build.rule_files import RULES, code
from guard.data.build.write import DROPS
from guard.data.dataset.open import batches, columns, hash_texts, open_dataset, rows_at
from guard.errors import DataError, nearest, need

PAIR = "pair"
_DROPS = Path(DROPS).stem
_MAX_LISTED = 60  # values in an error


@dataclass(frozen=True, slots=True)
class Filter:
    """The values that rows must have; None matches any. `reason` applies to dropped rows only."""

    split: str | None = None
    source: str | None = None
    label: str | None = None
    category: str | None = None
    kind: str | None = None
    language: str | None = None
    reason: str | None = None
    id: str | None = None

    def values(self, *fields: str) -> dict[str, str]:
        """The values of those `fields` that are not None."""
        values = ((field, getattr(self, field)) for field in fields)
        return {field: value for field, value in values if value is not None}


@dataclass(frozen=True, slots=True, repr=False)
class Sample:
    """One row. `messages` are (role, content); of a pair, the last two are the preferred and the rejected response, and
    of a row of rules, the first is the policy that it is judged by.

    characters: of the judged turn, or of the preferred response. cluster_rows: the number of rows of its cluster.
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
    """One dropped row: its text is not stored, `place` is where it was read."""

    source: str
    id: str
    place: str
    reason: str
    detail: str


def files(path: Path) -> dict[str, Path]:
    """The parquet files of a data set by name without suffix, or the one file `path`; DataError if it is neither."""
    if path.is_dir():
        dataset = open_dataset(path)
        drops = {} if dataset.drops is None else {dataset.drops.stem: dataset.drops}
        rules = {path.stem: path for path in dataset.rules.values()}
        return {**dataset.labelled, **dataset.pairs, **rules, **drops}
    if path.suffix != ".parquet" or not path.is_file():
        raise DataError(f"{path}: neither a folder nor a parquet file; give a build's folder, or one file of it")
    return {path.stem: path}


def sample(paths: Mapping[str, Path], criteria: Filter, count: int, seed: int) -> list[Sample]:
    """At most `count` rows that match `criteria`; a larger sample begins with the smaller one.

    Pairs are included only if the criteria name their kind, their file, or an id, and rows of rules only if they name
    their file or an id. DataError for a file that lacks a column, and if a value of the criteria does not occur at all.
    """
    selected = {name: path for name, path in paths.items() if _is_selected(name, path, criteria)}
    if criteria.split is not None and not selected:
        raise DataError(f"no {criteria.split!r} here{_alternatives(criteria.split, paths.keys() - {_DROPS})}")
    picked = _pick(selected, criteria.values("source", "label", "category", "kind", "language", "id"), count, seed)
    rows = {
        name: rows_at(selected[name], {row for file, row in picked if file == name})
        for name in {file for file, _ in picked}
    }
    clusters = _cluster_rows(paths, {rows[name][row]["cluster"] for name, row in picked})
    return [_sample(name, rows[name][row], clusters) for name, row in picked]


def sample_drops(paths: Mapping[str, Path], criteria: Filter, count: int, seed: int) -> list[Dropped]:
    """At most `count` dropped rows that match source, reason and id. DataError if the data set has no file of them."""
    if _DROPS not in paths:
        raise DataError(f"no {DROPS} here (available: {', '.join(paths)}); give the folder of a build")
    picked = _pick({_DROPS: paths[_DROPS]}, criteria.values("source", "reason", "id"), count, seed)
    rows = rows_at(paths[_DROPS], {row for _, row in picked})
    fields = [field.name for field in dataclasses.fields(Dropped)]
    return [Dropped(**{field: rows[row].get(field) or "" for field in fields}) for _, row in picked]


def _is_selected(name: str, path: Path, criteria: Filter) -> bool:
    if name == _DROPS:
        return False
    if criteria.split is not None:
        return name == criteria.split
    if criteria.id is not None or name.startswith(f"{RULES}-"):
        return criteria.id is not None
    return criteria.kind == PAIR or "messages" in columns(path)


def _pick(paths: Mapping[str, Path], criteria: Mapping[str, str], count: int, seed: int) -> list[tuple[str, int]]:
    """(file, row) of the matching rows with the smallest seeded hashes, in their order."""
    best: list[tuple[int, str, int]] = []
    seen: dict[str, Counter[str]] = {field: Counter() for field in criteria}
    for name, path in paths.items():
        start = 0
        for batch in _batches(path, criteria):
            match = np.ones(batch.num_rows, dtype=bool)
            for field, value in criteria.items():
                match &= _matches(batch, field, value, seen[field])
            rows = np.flatnonzero(match)
            ids = batch.column("id").take(need("pyarrow", "data").array(rows)).to_pylist()
            ranks = hash_texts(f"{seed}\0{id}" for id in ids)
            first = np.argsort(ranks, kind="stable")[:count]
            best += [(int(ranks[index]), name, start + int(rows[index])) for index in first]
            best = sorted(best)[:count]
            start += batch.num_rows
    if not best:
        _check_values(criteria, seen)
    return [(name, row) for _, name, row in best]


def _batches(path: Path, criteria: Mapping[str, str]) -> Iterator[Any]:
    present = columns(path)
    fields = ["categories" if field == "category" else field for field in criteria]
    required = [field for field in fields if field in present or field not in ("kind", "label", "categories")]
    extra = ["label"] if "category" in criteria and "label" in present else []
    yield from batches(path, list(dict.fromkeys(["id", *required, *extra])))


def _matches(batch: Any, field: str, value: str, seen: Counter[str]) -> Any:
    """Whether each row has the value; the values of all rows are counted in `seen`."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    name = "categories" if field == "category" else field
    if name not in batch.schema.names:  # pairs have no label and no kind column
        constant = PAIR if field == "kind" else ""
        seen[constant] += batch.num_rows
        return np.full(batch.num_rows, constant == value)
    column = batch.column(name)
    values = column.flatten() if field == "category" else column
    if field != "id":
        seen.update({entry["values"]: entry["counts"] for entry in compute.value_counts(values).to_pylist()})
    equal = compute.fill_null(compute.equal(values, arrow.scalar(value)), False).to_numpy(zero_copy_only=False)
    if field != "category":
        return equal
    match = np.zeros(batch.num_rows, dtype=bool)
    match[compute.list_parent_indices(column).to_numpy()[equal]] = True
    return match


def _check_values(criteria: Mapping[str, str], seen: Mapping[str, Counter[str]]) -> None:
    """DataError, with the values that occur, if a value of the criteria does not occur at all."""
    if "id" in criteria:
        return
    for field, value in criteria.items():
        if value not in seen[field]:
            raise DataError(f"no row has the {field} {value!r}{_alternatives(value, filter(None, seen[field]))}")


def _alternatives(value: str, known: Any) -> str:
    names = sorted(known)
    near = nearest(value, names)
    hint = f"; did you mean {near!r}?" if near else ""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{hint} (available: {', '.join(names[:_MAX_LISTED]) or 'none'}{more})"


def _cluster_rows(paths: Mapping[str, Path], clusters: set[str]) -> Counter[str]:
    """The number of rows of each of the clusters."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    counts: Counter[str] = Counter()
    names = arrow.array(sorted(clusters), arrow.string())
    for name, path in paths.items():
        if clusters and name != _DROPS:
            for batch in batches(path, ["cluster"]):
                column = batch.column("cluster")
                counts.update(column.filter(compute.is_in(column, value_set=names)).to_pylist())
    return counts


def _sample(name: str, row: Mapping[str, Any], clusters: Mapping[str, int]) -> Sample:
    pair = "messages" not in row
    turns = [(turn["role"], turn["content"]) for turn in row["prompt" if pair else "messages"]]
    if pair:
        turns += [("assistant, preferred", row["chosen"]), ("assistant, rejected", row["rejected"])]
    if "policy" in row:
        rules = (f"{code(place)} {rule['name']}: {rule['definition']}" for place, rule in enumerate(row["policy"]))
        turns.insert(0, ("policy", "\n".join(rules)))
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
