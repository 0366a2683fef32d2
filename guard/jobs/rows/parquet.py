"""Parquet files as tables, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from guard.errors import DataError, need
from guard.jobs.rows.limits import check_expansion

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


class ParquetTable:
    """The table of a Parquet file, for TableRows."""

    def __init__(self, path: Path) -> None:
        self.file = open_parquet(path, str(path))
        self.schema = self.file.schema_arrow

    def total(self) -> int:
        return int(self.file.metadata.num_rows)

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        return batches(self.file, columns)

    @staticmethod
    def write(file: BinaryIO, schema: Any, tables: Iterable[Any]) -> None:
        with need("pyarrow.parquet", "data").ParquetWriter(file, schema) as writer:
            for table in tables:
                writer.write_table(table)

    @staticmethod
    def read(path: Path) -> Any:
        return need("pyarrow.parquet", "data").ParquetFile(path).read()
