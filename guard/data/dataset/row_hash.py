"""The rows of a data set by 64-bit keys, with their attributes but without texts: the input of comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guard.data.build.write import PAIRS
from guard.data.dataset.open import Dataset, batches, hash_texts
from guard.data.ingest.ingest import REPEATED
from guard.errors import DataError, need

PAIR = "pair"
_SCALARS = ("source", "label", "kind", "language", "licence", "role")
_LISTS = ("categories", "undecided")
_COLUMN, _ITEM = "\x1f", "\x1e"  # separators of a state that is joined into one text


class RowState(NamedTuple):
    """The attributes of a row besides its texts, which its id stands for."""

    split: str
    source: str
    label: str
    kind: str
    language: str
    licence: str
    role: str
    categories: tuple[str, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class HashedRows:
    """One entry per row, sorted by key: its key (of id and kind), the index of its state, its cluster and weight."""

    keys: NDArray[np.uint64]
    states: NDArray[np.int32]
    clusters: NDArray[np.uint64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, repr=False)
class HashedDrops:
    """The sorted hash_texts of the ids of dropped rows, each with the index of its reason."""

    ids: NDArray[np.uint64]
    codes: NDArray[np.int32]
    reasons: tuple[str, ...]

    def codes_of(self, ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The code of the reason of each id, -1 for rows that were not dropped."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int32)
        position = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[position] == ids, self.codes[position], np.int32(-1))


def read_rows(dataset: Dataset, states: dict[RowState, int]) -> HashedRows:
    """The rows of a data set; new states are added to `states`. DataError if a row occurs twice."""
    parts = [part for name in (*dataset.labelled, *dataset.pairs) for part in _read_file(dataset, name, states)]
    keys, codes, clusters, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys)
    keys = keys[order]
    if repeated := int((keys[1:] == keys[:-1]).sum()):
        raise DataError(f"{dataset.folder}: {repeated:,} rows share their id and kind with another; build it again")
    return HashedRows(keys, codes[order], clusters[order], weights[order])


def _read_file(dataset: Dataset, name: str, states: dict[RowState, int]) -> Iterator[tuple[NDArray[Any], ...]]:
    pairs = name in dataset.pairs
    path = dataset.pairs[name] if pairs else dataset.labelled[name]
    split = name.removeprefix(f"{PAIRS}-")
    needed = [column for column in _SCALARS if not pairs or column not in ("label", "kind", "role")]
    yield _empty()
    for batch in batches(
        path, ["id", "cluster", "weight", *needed, *(() if pairs else ("categories",))], ("role", "undecided")
    ):
        codes = _codes(batch, split, states)
        kinds = hash_texts(state.kind for state in states)[codes]
        yield (
            hash_texts(batch.column("id").to_pylist()) ^ kinds,
            codes,
            hash_texts(batch.column("cluster").to_pylist()),
            batch.column("weight").to_numpy(zero_copy_only=False),
        )


def _empty() -> tuple[NDArray[Any], ...]:
    return tuple(np.zeros(0, dtype) for dtype in (np.uint64, np.int32, np.uint64, np.float64))


def _codes(batch: Any, split: str, states: dict[RowState, int]) -> NDArray[np.int32]:
    """The index of each row's state."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    defaults = {"kind": PAIR}  # pairs have no such column
    columns = [
        batch.column(name) if name in batch.schema.names else arrow.repeat(defaults.get(name, ""), batch.num_rows)
        for name in _SCALARS
    ]
    for name in _LISTS:
        present = name in batch.schema.names
        columns.append(compute.binary_join(batch.column(name), _ITEM) if present else arrow.repeat("", batch.num_rows))
    joined = compute.binary_join_element_wise(*columns, _COLUMN, null_handling="replace").dictionary_encode()
    texts = joined.dictionary.to_pylist()
    codes = np.array([states.setdefault(_state(split, text), len(states)) for text in texts], dtype=np.int32)
    indices: NDArray[np.int32] = joined.indices.to_numpy(zero_copy_only=False)
    return codes[indices]


def _state(split: str, text: str) -> RowState:
    *scalars, categories, undecided = text.split(_COLUMN)
    lists = (tuple(item for item in joined.split(_ITEM) if item) for joined in (categories, undecided))
    return RowState(split, *scalars, *lists)  # type: ignore[arg-type]  # the last two are lists


def id_hashes(rows: HashedRows, indices: NDArray[np.intp], states: list[RowState]) -> NDArray[np.uint64]:
    """Hashes of the ids of the rows at `indices`: their keys, with the hash_texts of their kinds taken out."""
    return rows.keys[indices] ^ hash_texts(state.kind for state in states)[rows.states[indices]]


def read_drops(dataset: Dataset) -> HashedDrops | None:
    """The dropped rows of a data set, None if it has no file of them.

    A row that was read several times is dropped several times. Its reason is the one for which no copy was kept, so a
    repeat counts last.
    """
    if dataset.drops is None:
        return None
    ids, codes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    code_of: dict[str, int] = {}
    for batch in batches(dataset.drops, ("id", "reason")):
        ids.append(hash_texts(batch.column("id").to_pylist()))
        reasons = batch.column("reason").to_pylist()
        codes.append(np.array([code_of.setdefault(reason, len(code_of)) for reason in reasons], dtype=np.int32))
    all_ids, all_codes = np.concatenate(ids), np.concatenate(codes)
    repeat = all_codes == code_of.get(REPEATED, -1)
    order = np.lexsort((all_codes, repeat, all_ids))
    distinct, first = np.unique(all_ids[order], return_index=True)
    return HashedDrops(distinct, all_codes[order][first], tuple(code_of))


def ids_of(dataset: Dataset, keys: NDArray[np.uint64]) -> list[str]:
    """The ids of the rows with these keys, sorted."""
    result: list[str] = []
    for name, path in (dataset.labelled | dataset.pairs).items():
        pairs = name in dataset.pairs
        for batch in batches(path, ["id"] if pairs else ["id", "kind"]):
            ids = batch.column("id").to_pylist()
            kinds = [PAIR] * len(ids) if pairs else batch.column("kind").to_pylist()
            matches = np.isin(hash_texts(ids) ^ hash_texts(kinds), keys)
            result += [ids[index] for index in np.flatnonzero(matches)]
    return sorted(result)
