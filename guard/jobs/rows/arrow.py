"""Arrow IPC files, such as those of Hugging Face data sets, as tables, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from guard.errors import DataError, need
from guard.jobs.rows.limits import check_expansion
from guard.jobs.rows.parquet import STEP


class ArrowTable:
    """The table of a file in either of Arrow's formats, stream or file, for TableRows. Streams are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        arrow = need("pyarrow", "data")
        try:
            with self._record_batches() as (schema, _):
                self.schema = schema
        except FileNotFoundError:
            raise DataError(f"{path}: cannot be read: No such file or directory") from None
        except (arrow.ArrowException, OSError, ValueError) as problem:  # arrow's message may contain a value
            raise DataError(f"{path}: cannot be read as Arrow ({type(problem).__name__}); is it damaged?") from None

    @contextmanager
    def _record_batches(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        """The schema and the record batches as they were written."""
        arrow, ipc = need("pyarrow", "data"), need("pyarrow.ipc", "data")
        with arrow.memory_map(str(self.path)) as file:
            try:
                stream = ipc.open_stream(file)
            except arrow.ArrowInvalid:
                table = ipc.open_file(file)
                yield table.schema, (table.get_batch(index) for index in range(table.num_record_batches))
            else:
                yield stream.schema, iter(stream)

    def total(self) -> int:
        with self._record_batches() as (_, written):
            return sum(batch.num_rows for batch in written)

    def batches(self, columns: Sequence[str] | None) -> Iterator[Any]:
        size = self.path.stat().st_size
        with self._record_batches() as (_, written):
            for batch in written:
                check_expansion(str(self.path), size, batch.nbytes)
                selected = batch if columns is None else batch.select(columns)
                for start in range(0, batch.num_rows, STEP):
                    yield selected.slice(start, STEP)

    @staticmethod
    def write(file: BinaryIO, schema: Any, tables: Iterable[Any]) -> None:
        with need("pyarrow.ipc", "data").new_stream(file, schema) as writer:
            for table in tables:
                writer.write_table(table)

    @staticmethod
    def read(path: Path) -> Any:
        with path.open("rb") as file:
            return need("pyarrow.ipc", "data").open_stream(file).read_all()
