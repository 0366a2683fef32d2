"""The rows of a build by 64-bit keys, with what they are but without their texts: what two builds are compared by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guard.data.build.write import PAIRS
from guard.data.dataset.open import Built, batches, hashes
from guard.data.ingest.ingest import REPEATED
from guard.errors import DataError, need

PAIR = "pair"
_WORDS = ("source", "label", "kind", "language", "licence", "role")
_LISTS = ("categories", "undecided")
_COLUMN, _ITEM = "\x1f", "\x1e"  # between the parts of a state while it is one text


class State(NamedTuple):
    """What is known of a row beside its texts, which are in its id."""

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
class Keyed:
    """One entry a row, by rising key: its key (of id and kind), the index of its state, its cluster and weight."""

    keys: NDArray[np.uint64]
    states: NDArray[np.int32]
    clusters: NDArray[np.uint64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, repr=False)
class Drops:
    """Hashes of the ids of dropped rows, rising, each with the index of its reason."""

    ids: NDArray[np.uint64]
    codes: NDArray[np.int32]
    reasons: tuple[str, ...]

    def of(self, ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The code of the reason of each id, -1 where it was not dropped."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int32)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.codes[place], np.int32(-1))


def read(built: Built, states: dict[State, int]) -> Keyed:
    """The rows of a build; states that are new are added to `states`. DataError if a row is there twice."""
    parts = [part for name in (*built.labelled, *built.pairs) for part in _read_file(built, name, states)]
    keys, codes, clusters, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys)
    keys = keys[order]
    if twice := int((keys[1:] == keys[:-1]).sum()):
        raise DataError(f"{built.folder}: {twice:,} rows share their id and kind with another; build it again")
    return Keyed(keys, codes[order], clusters[order], weights[order])


def _read_file(built: Built, name: str, states: dict[State, int]) -> Iterator[tuple[NDArray[Any], ...]]:
    pairs = name in built.pairs
    path = built.pairs[name] if pairs else built.labelled[name]
    split = name.removeprefix(f"{PAIRS}-")
    needed = [word for word in _WORDS if not pairs or word not in ("label", "kind", "role")]
    yield _nothing()
    for batch in batches(
        path, ["id", "cluster", "weight", *needed, *(() if pairs else ("categories",))], ("role", "undecided")
    ):
        codes = _codes(batch, split, states)
        kinds = hashes(state.kind for state in states)[codes]
        yield (
            hashes(batch.column("id").to_pylist()) ^ kinds,
            codes,
            hashes(batch.column("cluster").to_pylist()),
            batch.column("weight").to_numpy(zero_copy_only=False),
        )


def _nothing() -> tuple[NDArray[Any], ...]:
    return tuple(np.zeros(0, dtype) for dtype in (np.uint64, np.int32, np.uint64, np.float64))


def _codes(batch: Any, split: str, states: dict[State, int]) -> NDArray[np.int32]:
    """The index of each row's state."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    absent = {"kind": PAIR}  # of pairs
    columns = [
        batch.column(name) if name in batch.schema.names else arrow.repeat(absent.get(name, ""), batch.num_rows)
        for name in _WORDS
    ]
    for name in _LISTS:
        present = name in batch.schema.names
        columns.append(compute.binary_join(batch.column(name), _ITEM) if present else arrow.repeat("", batch.num_rows))
    whole = compute.binary_join_element_wise(*columns, _COLUMN, null_handling="replace").dictionary_encode()
    texts = whole.dictionary.to_pylist()
    known = np.array([states.setdefault(_state(split, text), len(states)) for text in texts], dtype=np.int32)
    indices: NDArray[np.int32] = whole.indices.to_numpy(zero_copy_only=False)
    return known[indices]


def _state(split: str, text: str) -> State:
    *words, categories, undecided = text.split(_COLUMN)
    lists = (tuple(item for item in joined.split(_ITEM) if item) for joined in (categories, undecided))
    return State(split, *words, *lists)  # type: ignore[arg-type]  # two lists end it


def id_hashes(rows: Keyed, places: NDArray[np.intp], states: list[State]) -> NDArray[np.uint64]:
    """Hashes of the ids of the rows at `places`: their keys, less what their kinds put into them."""
    return rows.keys[places] ^ hashes(state.kind for state in states)[rows.states[places]]


def drops(built: Built) -> Drops | None:
    """The dropped rows of a build, None if it kept no list.

    A row that was read several times is dropped several times. Its reason is the one for which none of it was kept, so
    that of a repeat comes last.
    """
    if built.drops is None:
        return None
    ids, codes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    known: dict[str, int] = {}
    for batch in batches(built.drops, ("id", "reason")):
        ids.append(hashes(batch.column("id").to_pylist()))
        reasons = batch.column("reason").to_pylist()
        codes.append(np.array([known.setdefault(reason, len(known)) for reason in reasons], dtype=np.int32))
    every, code = np.concatenate(ids), np.concatenate(codes)
    repeat = code == known.get(REPEATED, -1)
    order = np.lexsort((code, repeat, every))
    every, first = np.unique(every[order], return_index=True)
    return Drops(every, code[order][first], tuple(known))


def ids(built: Built, keys: NDArray[np.uint64]) -> list[str]:
    """The ids of the rows with these keys, sorted."""
    found: list[str] = []
    for name, path in (built.labelled | built.pairs).items():
        pairs = name in built.pairs
        for batch in batches(path, ["id"] if pairs else ["id", "kind"]):
            named = batch.column("id").to_pylist()
            kinds = [PAIR] * len(named) if pairs else batch.column("kind").to_pylist()
            here = np.isin(hashes(named) ^ hashes(kinds), keys)
            found += [named[place] for place in np.flatnonzero(here)]
    return sorted(found)
