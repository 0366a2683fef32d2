"""Rows of a Parquet or Arrow file; columns keep their types."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from guard.conversation import ConversationColumns
from guard.errors import DataError, InvalidInput, need
from guard.jobs.rows.json_lines import absent, taken
from guard.jobs.rows.limits import SHARD_BYTES


class Table(Protocol):
    """A file that holds a table."""

    schema: Any

    def total(self) -> int: ...

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """All rows, as record batches of at most STEP rows; columns: None for all."""

    @staticmethod
    def write(file: BinaryIO, schema: Any, tables: Iterable[Any]) -> None: ...

    @staticmethod
    def read(path: Path) -> Any:
        """The small table that `write` wrote to the file."""


class TableRows:
    """columns: those to read; None: all. Added columns of kind `object` become JSON text.

    replacing: the last columns are those that are added, by an earlier run.
    """

    def __init__(
        self,
        path: Path,
        file: Table,
        wanted: ConversationColumns,
        columns: Sequence[str] | None,
        adding: Mapping[str, str] | None = None,
        replacing: bool = False,
    ) -> None:
        self.path, self.file, self.adding, self.replacing = path, file, dict(adding or {}), replacing
        given = file.schema
        if twice := sorted({name for name in given.names if given.names.count(name) > 1}):
            raise DataError(f"{path}: has two columns `{twice[0]}`; rename one of them")
        if replacing and given.names[-len(self.adding) :] != list(self.adding):
            raise DataError(f"{path}: {absent(self.adding)}; its columns are: {', '.join(given.names)}")
        for name in self.adding:
            if name in given.names and not replacing:
                raise DataError(f"{path}: {taken(name)}")
        if not set(wanted.names).intersection(given.names):
            raise DataError(
                f"{path}: has no column {wanted}; its columns are: {', '.join(given.names)}. --text-column names "
                "another column to judge"
            )
        self.selected = given.names if columns is None else [name for name in given.names if name in columns]
        arrow = need("pyarrow", "data")
        text = arrow.string()
        kinds = {"text": text, "number": arrow.float64(), "texts": arrow.list_(text), "object": text}
        self.added = arrow.schema([(name, kinds[kind]) for name, kind in self.adding.items()])
        self.own = arrow.schema([field for field in given if field.name not in self.adding], metadata=given.metadata)
        self.schema = arrow.schema([*self.own, *self.added], metadata=given.metadata)

    def total(self) -> int:
        return self.file.total()

    def shards(self, size: int) -> Iterator[TableShard]:
        arrow = need("pyarrow", "data")
        first, held, pending = 1, 0, []
        try:
            for batch in self._cut(size):
                pending.append(batch)
                held += batch.nbytes
                if (count := sum(each.num_rows for each in pending)) == size or held >= SHARD_BYTES:
                    yield TableShard(self, arrow.Table.from_batches(pending), first)
                    first, held, pending = first + count, 0, []
            if pending:
                yield TableShard(self, arrow.Table.from_batches(pending), first)
        except (arrow.ArrowException, OSError) as problem:  # of the reading: the caller's own do not come here
            read_rows = first - 1 + sum(each.num_rows for each in pending)
            raise DataError(f"{self.path}: damaged after row {read_rows} ({type(problem).__name__})") from None

    def _cut(self, size: int) -> Iterator[Any]:
        """Batches that end where a shard of `size` rows does."""
        room = size
        for batch in self.file.batches(None if self.adding else self.selected):
            while batch.num_rows:
                piece = batch.slice(0, room)
                batch = batch.slice(piece.num_rows)
                room = room - piece.num_rows or size
                yield piece

    def missing(self, names: Iterable[str]) -> str:
        absent = [name for name in names if name not in self.own.names]
        return f"has no column `{absent[0]}`; its columns are: {', '.join(self.own.names)}" if absent else ""

    def difference(self, other: TableRows) -> str:
        if self.own.equals(other.own):
            return ""
        own, others = ({field.name: str(field.type) for field in rows.own} for rows in (self, other))
        names = [name for name in {**own, **others} if own.get(name) != others.get(name)]
        return ", ".join(
            f"`{name}` is {others.get(name, 'absent')}, not {own.get(name, 'absent')}" for name in names
        ) or ("its columns are in another order, or differ in whether they may be null")

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        self.file.write(file, self.schema, map(self.file.read, parts))


class TableShard:
    def __init__(self, rows: TableRows, table: Any, first: int) -> None:
        self.rows = rows
        self.table = table.combine_chunks()
        self.first = first
        self._columns = {name: self.table.column(name) for name in rows.selected}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def number(self, index: int) -> int:
        return self.first + index

    def row(self, index: int) -> Mapping[str, Any]:
        try:
            return {name: column[index].as_py() for name, column in self._columns.items()}
        except UnicodeDecodeError:
            raise InvalidInput("not valid UTF-8") from None
        except (ValueError, OverflowError) as problem:  # such as a date before the year 1
            raise InvalidInput(f"a value cannot be read ({type(problem).__name__})") from None

    def raw(self, index: int) -> dict[str, Any]:
        return {"row": {name: _plain(self.table.column(name)[index]) for name in self.table.column_names}}

    def write(self, file: BinaryIO, added: Mapping[int, str]) -> None:
        arrow = need("pyarrow", "data")
        table = self.table.select(self.rows.own.names)
        # By slices: arrow cannot take single rows of every type that it reads.
        kept = arrow.concat_tables([table.slice(0, 0), *(table.slice(a, n) for a, n in _runs(added))])
        columns = [json.loads(columns) for columns in added.values()]
        for each in columns:
            for name, kind in self.rows.adding.items():
                each[name] = json.dumps(each[name]) if kind == "object" else each[name]
        new = arrow.Table.from_pylist(columns, schema=self.rows.added)
        whole = arrow.Table.from_arrays([*kept.columns, *new.columns], schema=self.rows.schema)
        self.rows.file.write(file, self.rows.schema, [whole])


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """(first, count) of each run of consecutive indices, which rise."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and sum(runs[-1]) == index:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


def _plain(scalar: Any) -> Any:
    """A value as JSON data; of one that Python cannot hold, its type."""
    try:
        return json.loads(json.dumps(scalar.as_py(), default=as_json))
    except (ValueError, OverflowError):
        return f"({scalar.type} that cannot be shown)"


def as_json(value: object) -> str:
    """Values without a JSON type as text: bytes as base64, dates and decimals by `str`."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
