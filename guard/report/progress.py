"""One progress bar for all commands: on stderr, and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """A bar that may be off; then its methods do nothing."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: float = 1, label: str | None = None, total: float | None = None) -> None:
        """Move the bar by `count`, negative to take back; a `label` or `total` replaces the one so far."""
        self._progress.update(self._task, advance=count, description=label, total=total)


@contextmanager
def progress_bar(
    label: str = "",
    total: float | Callable[[], float | None] | None = None,
    unit: Literal["items", "bytes"] = "items",
) -> Iterator[ProgressBar]:
    """A bar that disappears when the block ends. total: None if unknown; a function is called only if the bar shows."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    amount = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amount, TimeElapsedColumn())
    if callable(total):
        total = total() if console.is_terminal else None
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressBar(progress, progress.add_task(label, total=total))
