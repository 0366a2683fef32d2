"""Parquet and Arrow files as rows of plain values, a few hundred rows in memory at a time."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from guard.errors import DataError, need
from guard.jobs.rows import parquet

_BATCH = 500  # rows
_AS_TEXT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


def rows(path: Path, where: str, format: Literal["parquet", "arrow"]) -> Iterator[dict[str, Any]]:
    """Each row as a dict by column name; repeated names get the suffixes `#2`, `#3` ….

    Dates and decimals become strings. A ClassLabel of `datasets` becomes its name, None where it is missing. DataError
    if the file is damaged.
    """
    arrow = need("pyarrow", "data")
    done = 0
    with ExitStack() as stack:
        try:
            schema, batches = _open(path, where, format, stack)
            names, labels = unique_names(schema.names), _class_labels(schema)
            for batch in batches:
                for start in range(0, batch.num_rows, _BATCH):
                    columns = [column.to_pylist() for column in batch.slice(start, _BATCH).columns]
                    for values in zip(*columns, strict=True):
                        done += 1
                        fields = dict(zip(names, map(_plain, values), strict=True))
                        for name in labels:
                            fields[name] = _label_name(fields[name], labels[name])
                        yield fields
        except (FileNotFoundError, DataError):
            raise
        except (
            arrow.ArrowException,
            OSError,
            ValueError,
            RecursionError,
        ) as error:  # it may quote a value
            problem = f"damaged after row {done}" if done else f"not a readable {format} file"
            raise DataError(f"{where}: {problem} ({type(error).__name__}); restore it") from None


def unique_names(header: Sequence[str]) -> list[str]:
    """Column names, with the suffixes `#2`, `#3` … on repeated ones, so that no column is lost."""
    seen: Counter[str] = Counter()
    names = []
    for name in header:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _open(path: Path, where: str, format: str, stack: ExitStack) -> tuple[Any, Iterator[Any]]:
    """The schema and the batches of a file."""
    arrow = need("pyarrow", "data")
    if format == "parquet":
        file = stack.enter_context(parquet.open_parquet(path, where))
        return file.schema_arrow, parquet.batches(file)
    ipc = need("pyarrow.ipc", "data")
    source = stack.enter_context(arrow.OSFile(str(path)))
    try:
        whole = stack.enter_context(ipc.open_file(source))
    except arrow.ArrowInvalid:  # `datasets` writes streams, which have no footer
        source.seek(0)
        stream = stack.enter_context(ipc.open_stream(source))
        return stream.schema, iter(stream)
    return whole.schema, (whole.get_batch(index) for index in range(whole.num_record_batches))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, _AS_TEXT) else value


def _class_labels(schema: Any) -> dict[str, list[str]]:
    """The class names of each column of ClassLabels, or of lists of them, that `datasets` wrote."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    labels = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        while isinstance(feature, dict) and "feature" in feature:
            feature = feature["feature"]
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and schema.names.count(name) == 1:
            labels[name] = [str(label) for label in feature.get("names") or ()]
    return labels


def _label_name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_label_name(inner, names) for inner in value]
    if not isinstance(value, int):
        return value
    if value < 0:
        return None
    return names[value] if value < len(names) else value
