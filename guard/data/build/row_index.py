"""The index of all rows of a build, without their texts: what selection, splits and weights are computed from."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from guard.data.build import source_part
from guard.data.build.near import PERMUTATIONS
from guard.data.row import LABELS, Kind
from guard.errors import need
from guard.jobs.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, repr=False)
class RowIndex:
    """One entry per row, in the order of the parts and of their files; about a hundred bytes each.

    `kind`, `label` and `language` are indices into KINDS, LABELS and `languages`; `rule_key` is 0 where the label is of
    the whole policy. Row `category_rows[i]` violates the category `codes[category_codes[i]]`; row `group_rows[i]`
    belongs to the group `group_keys[i]`.
    """

    source: NDArray[np.int16]
    id: NDArray[np.uint64]
    key: NDArray[np.uint64]
    prompt_key: NDArray[np.uint64]
    kind: NDArray[np.int8]
    label: NDArray[np.int8]
    language: NDArray[np.int16]
    characters: NDArray[np.int32]
    rule_key: NDArray[np.uint64]
    instructed: NDArray[np.bool_]
    group_rows: NDArray[np.int64]
    group_keys: NDArray[np.uint64]
    category_rows: NDArray[np.int64]
    category_codes: NDArray[np.int16]
    languages: tuple[str, ...]
    codes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.id)


def read_index(ledger: Ledger, count: int) -> RowIndex:
    """The index of the rows of the parts 0..count-1."""
    import numpy as np

    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    tables = [source_part.read_index_columns(ledger, part) for part in range(count)]
    source = np.repeat(np.arange(count, dtype=np.int16), [table.num_rows for table in tables])
    table = arrow.concat_tables(tables)
    languages = tuple(sorted(compute.unique(table["language"]).to_pylist()))

    def flatten(name: str) -> tuple[NDArray[np.int64], Any]:
        return compute.list_parent_indices(table[name]).to_numpy(), compute.list_flatten(table[name])

    group_rows, group_keys = flatten("groups")
    category_rows, categories = flatten("categories")
    codes = tuple(sorted(compute.unique(categories).to_pylist()))
    return RowIndex(
        source=source,
        **{name: table[name].to_numpy() for name in ("id", "key", "prompt_key", "characters", "rule_key")},
        instructed=table["instructed"].to_numpy(),
        kind=_index(table["kind"], KINDS).astype(np.int8),
        label=_index(table["label"], LABELS).astype(np.int8),
        language=_index(table["language"], languages).astype(np.int16),
        group_rows=group_rows.astype(np.int64),
        group_keys=group_keys.to_numpy(),
        category_rows=category_rows.astype(np.int64),
        category_codes=_index(categories, codes).astype(np.int16),
        languages=languages,
        codes=codes,
    )


def _index(values: Any, known: Sequence[str]) -> Any:
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    return compute.index_in(values, value_set=arrow.array(known, arrow.string())).to_numpy()


class Signatures:
    """The signatures of all rows, (rows, PERMUTATIONS) uint32, memory-mapped from a file written at `path`."""

    def __init__(self, ledger: Ledger, count: int, name: str, path: Path) -> None:
        import numpy as np

        with path.open("wb") as whole:
            for part in range(count):
                with ledger.path(part, name).open("rb") as file:
                    shutil.copyfileobj(file, whole)
        self._map: mmap.mmap | None = None
        if path.stat().st_size:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        raw = b"" if self._map is None else self._map
        self.array = np.frombuffer(raw, dtype=np.uint32).reshape(-1, PERMUTATIONS)

    def release(self) -> None:
        """Release the pages read so far, which would count as this process's memory."""
        if self._map is not None:
            with suppress(AttributeError, OSError):  # a hint that not every platform supports
                self._map.madvise(mmap.MADV_DONTNEED)
