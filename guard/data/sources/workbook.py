"""Excel workbooks, row by row; every cell as the text that it would have in the workbook saved as CSV."""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from guard.errors import DataError, need
from guard.jobs.rows.limits import check_expansion

_BATCH = 500  # rows
_MAX_COLUMNS, _MAX_ROWS = 16_384, 1_048_576  # of a sheet


def rows(path: Path, where: str, sheet: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """(row number in the sheet, cells) of the non-empty rows of `sheet`, or of the first sheet.

    Trailing empty cells are left out. A formula yields the value that was saved with it, or nothing. DataError if the
    file is missing, damaged, or has no such sheet.
    """
    reader = need("openpyxl", "data")
    with path.open("rb") as file:
        _check_parts(file, where)
        try:
            book = _without_warnings(lambda: reader.load_workbook(file, read_only=True, data_only=True))
        except OSError:
            raise
        except Exception:  # noqa: BLE001  # a damaged workbook may fail anywhere in zip, XML or openpyxl
            raise _damaged(where) from None
        names = [worksheet.title for worksheet in book.worksheets]
        if not names or (sheet is not None and sheet not in names):
            missing = "first sheet" if sheet is None else f"sheet `{sheet}`"
            raise DataError(f"{where}: has no {missing}; its sheets are: {', '.join(names) or 'none'}")
        worksheet = book[sheet or names[0]]
        worksheet.reset_dimensions()  # some programs write wrong ones, by which cells would be left out
        yield from _rows(worksheet, where)


def _check_parts(file: BinaryIO, where: str) -> None:
    """DataError where a part of a workbook unpacks beyond reason: openpyxl loads some of them whole."""
    try:
        with zipfile.ZipFile(file) as parts:
            for part in parts.infolist():
                check_expansion(where, part.compress_size, part.file_size)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as problem:
        if isinstance(problem, DataError):
            raise
        raise _damaged(where) from None
    file.seek(0)


def _damaged(where: str) -> DataError:
    return DataError(f"{where}: is not an Excel workbook (.xlsx); is the file damaged?")


def _rows(sheet: Any, where: str) -> Iterator[tuple[int, list[str]]]:
    remaining = enumerate(sheet.iter_rows(values_only=True), 1)
    done = 0
    while True:
        try:
            batch = _without_warnings(lambda: list(islice(remaining, _BATCH)))
        except Exception:  # noqa: BLE001  # as above
            raise DataError(f"{where}: is damaged after row {done}; restore it") from None
        if not batch:
            return
        for done, values in batch:
            if done > _MAX_ROWS:  # openpyxl makes up the empty rows before a number, be it as large as it may
                raise DataError(f"{where}: has a row number over {_MAX_ROWS:,}, more than a sheet can have; restore it")
            cells = [_text(value) for value in values[:_MAX_COLUMNS]]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield done, cells


def _without_warnings(read: Any) -> Any:
    """The result of `read`, without openpyxl's warnings about styles and extensions that it drops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
