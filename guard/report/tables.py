"""Tables on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

WIDTH = 100  # columns of a file or a pipe, which has no width of its own; the variable COLUMNS gives another
_NAME_WIDTH = 12  # at least, of the names beside numbers: they fold where there is no room


def table(*columns: str, rows: Iterable[tuple[object, ...]] = ()) -> Table:
    """A table of text columns, which fold; integers in them are aligned to the right."""
    from rich.table import Table

    result = Table(**_style(), show_header=any(columns))
    for column in columns:
        result.add_column(_plain(column), overflow="fold")
    for row in rows:
        add(result, *row)
    return result


def number_table(first: str, *columns: str, rows: Iterable[tuple[object, ...]] = ()) -> Table:
    """A table whose first column names its rows; the others are aligned to the right and never cut."""
    from rich.table import Table

    result = Table(**_style(), padding=(0, 1, 0, 0), show_header=bool(first) or any(columns))
    result.add_column(_plain(first), overflow="fold", min_width=_NAME_WIDTH)
    for column in columns:
        result.add_column(_plain(column), justify="right", no_wrap=True, min_width=len(column))
    for row in rows:
        add(result, *row)
    return result


def add(table: Table, *cells: object, end_section: bool = False) -> None:
    """Add a row of plain texts, in which square brackets and emoji names are not markup, and of numbers."""
    texts = [_plain(cell) for cell in cells]
    for column, text in zip(table.columns, texts, strict=True):
        if column.no_wrap:
            column.min_width = max(column.min_width or 0, text.cell_len)
    table.add_row(*texts, end_section=end_section)


def show(*tables: Table) -> None:
    """Print tables on standard output: as wide as COLUMNS says, the terminal is, or WIDTH where it goes elsewhere."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else None if sys.stdout.isatty() else WIDTH
    # Where rich has no height either it takes TERM=dumb for 80 columns, whatever the width is.
    console = Console(width=width, height=width and 25)
    for table in tables:
        console.print(table)


def _style() -> dict[str, Any]:
    from rich import box

    return {"box": box.SIMPLE_HEAD, "pad_edge": False}


def _plain(cell: object) -> Text:
    from rich.text import Text

    return Text(f"{cell:,}", justify="right") if isinstance(cell, int) else Text(str(cell))
