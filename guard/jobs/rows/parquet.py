"""Rows of a Parquet file; columns keep their types."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from guard.conversation import ConversationColumns
from guard.errors import DataError, InvalidInput, need
from guard.jobs.rows.json_lines import taken
from guard.jobs.rows.limits import SHARD_BYTES, check_expansion

STEP = 32  # rows that are read at once: a page of a few bytes may hold a long text a million times
_BUFFER = 1 << 20  # bytes; without it a whole group of rows is read at once
_MANY = 1_000_000  # rows
_ROWS_A_BYTE = 8  # more rows per byte are implausible


def open_parquet(path: Path, where: str) -> Any:
    """The `pyarrow.parquet.ParquetFile`. DataError where it is damaged, or expands beyond reason."""
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        file = parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except FileNotFoundError:
        raise DataError(f"{where}: cannot be read: No such file or directory") from None
    except (arrow.ArrowException, OSError, ValueError) as problem:  # arrow's message may contain a value
        raise DataError(f"{where}: cannot be read as Parquet ({type(problem).__name__}); is it damaged?") from None
    size = path.stat().st_size
    metadata = file.metadata
    if metadata.num_rows > max(_MANY, _ROWS_A_BYTE * size):
        raise DataError(f"{where}: claims {metadata.num_rows:,} rows in {size:,} bytes; is it damaged?")
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(index) for index in range(metadata.num_columns)]
        for column in columns:
            check_expansion(where, column.total_compressed_size, column.total_uncompressed_size)
    return file


def batches(file: Any, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Record batches of at most STEP rows."""
    yield from file.iter_batches(batch_size=STEP, columns=columns, use_threads=False)


class ParquetRows:
    """columns: those to read; None: all. Added columns of kind `object` become JSON text."""

    def __init__(
        self,
        path: Path,
        wanted: ConversationColumns,
        columns: Sequence[str] | None,
        adding: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.adding = path, dict(adding or {})
        self.file = open_parquet(path, str(path))
        own = self.file.schema_arrow
        if twice := sorted({name for name in own.names if own.names.count(name) > 1}):
            raise DataError(f"{path}: has two columns `{twice[0]}`; rename one of them")
        for name in self.adding:
            if name in own.names:
                raise DataError(f"{path}: {taken(name)}")
        if not set(wanted.names).intersection(own.names):
            raise DataError(
                f"{path}: has no column {wanted}; its columns are: {', '.join(own.names)}. --text-column names another "
                "column to judge"
            )
        self.selected = own.names if columns is None else [name for name in own.names if name in columns]
        arrow = need("pyarrow", "data")
        text = arrow.string()
        kinds = {"text": text, "number": arrow.float64(), "texts": arrow.list_(text), "object": text}
        self.added = arrow.schema([(name, kinds[kind]) for name, kind in self.adding.items()])
        self.schema = arrow.schema([*own, *self.added], metadata=own.metadata)

    def total(self) -> int:
        return int(self.file.metadata.num_rows)

    def shards(self, size: int) -> Iterator[ParquetShard]:
        arrow = need("pyarrow", "data")
        first, held, pending = 1, 0, []
        try:
            for batch in self._cut(size):
                pending.append(batch)
                held += batch.nbytes
                if (count := sum(each.num_rows for each in pending)) == size or held >= SHARD_BYTES:
                    yield ParquetShard(self, arrow.Table.from_batches(pending), first)
                    first, held, pending = first + count, 0, []
            if pending:
                yield ParquetShard(self, arrow.Table.from_batches(pending), first)
        except (arrow.ArrowException, OSError) as problem:  # of the reading: the caller's own do not come here
            read_rows = first - 1 + sum(each.num_rows for each in pending)
            raise DataError(f"{self.path}: damaged after row {read_rows} ({type(problem).__name__})") from None

    def _cut(self, size: int) -> Iterator[Any]:
        """Batches that end where a shard of `size` rows does."""
        room = size
        for batch in batches(self.file, None if self.adding else self.selected):
            while batch.num_rows:
                piece = batch.slice(0, room)
                batch = batch.slice(piece.num_rows)
                room = room - piece.num_rows or size
                yield piece

    def join(self, parts: Iterable[Path], file: BinaryIO) -> None:
        parquet = need("pyarrow.parquet", "data")
        with parquet.ParquetWriter(file, self.schema) as writer:
            for part in parts:
                writer.write_table(parquet.ParquetFile(part).read())


class ParquetShard:
    def __init__(self, rows: ParquetRows, table: Any, first: int) -> None:
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
        arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
        # By slices: arrow cannot take single rows of every type that it reads.
        kept = arrow.concat_tables([self.table.slice(0, 0), *(self.table.slice(a, n) for a, n in _runs(added))])
        columns = [json.loads(columns) for columns in added.values()]
        for each in columns:
            for name, kind in self.rows.adding.items():
                each[name] = json.dumps(each[name]) if kind == "object" else each[name]
        new = arrow.Table.from_pylist(columns, schema=self.rows.added)
        parquet.write_table(arrow.Table.from_arrays([*kept.columns, *new.columns], schema=self.rows.schema), file)


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
