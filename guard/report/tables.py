"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_WIDTH = 300  # of a file or a pipe, which has no width to fold to


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
    result.add_column(_plain(first), overflow="fold")
    for column in columns:
        result.add_column(_plain(column), justify="right", no_wrap=True)
    for row in rows:
        add(result, *row)
    return result


def add(table: Table, *cells: object, end_section: bool = False) -> None:
    """Add a row of plain texts, in which square brackets and emoji names are not markup, and of numbers."""
    table.add_row(*map(_plain, cells), end_section=end_section)


def show(*tables: Table) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    for table in tables:
        console.print(table)


def _style() -> dict[str, Any]:
    from rich import box

    return {"box": box.SIMPLE_HEAD, "pad_edge": False}


def _plain(cell: object) -> Text:
    from rich.text import Text

    return Text(f"{cell:,}", justify="right") if isinstance(cell, int) else Text(str(cell))
