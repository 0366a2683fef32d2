"""Tables on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100  # columns of a file or a pipe, which has no width of its own; the variable COLUMNS gives another


def table(*columns: str, rows: Iterable[tuple[object, ...]] = ()) -> Table:
    """A table of plain texts, in which square brackets and emoji names are no markup, and of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        add(made, *row)
    return made


def add(made: Table, *cells: object) -> None:
    from rich.text import Text

    made.add_row(*(Text(f"{cell:,}", justify="right") if isinstance(cell, int) else Text(str(cell)) for cell in cells))


def show(made: Table) -> None:
    console().print(made)


def console() -> Console:
    """Standard output for plain text and tables: as wide as the terminal, or WIDTH where it goes elsewhere."""
    from rich.console import Console

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if sized else WIDTH, highlight=False, markup=False)
