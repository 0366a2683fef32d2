"""One progress bar for all commands: on stderr, where that is a terminal and warnings are logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_log = logging.getLogger(__name__)


class ProgressBar:
    """A bar that may be off; then its methods do nothing."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self.shown = not progress.disable
        self._task = task

    def advance(self, count: float = 1, label: str | None = None, total: float | None = None) -> None:
        """Move the bar by `count`, negative to take back; a `label` or `total` replaces the one so far."""
        self._progress.update(self._task, advance=count, description=label, total=total)


@contextmanager
def progress_bar(
    label: str = "",
    total: float | Callable[[], float | None] | None = None,
    unit: Literal["items", "bytes", "rows"] = "items",
) -> Iterator[ProgressBar]:
    """A bar that disappears when the block ends; `rows` have a rate and an estimate of the time left.

    total: None if unknown; a function is called only if the bar shows.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f} rows/s")

    console = Console(stderr=True)
    amounts: dict[str, tuple[ProgressColumn, ...]] = {
        "items": (MofNCompleteColumn(),),
        "bytes": (DownloadColumn(), TransferSpeedColumn()),
        "rows": (MofNCompleteColumn(), Rate(), TimeRemainingColumn()),
    }
    amount = amounts[unit]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *amount, TimeElapsedColumn())
    shown = console.is_terminal and _log.isEnabledFor(logging.WARNING)
    if callable(total):
        total = total() if shown else None
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield ProgressBar(progress, progress.add_task(label, total=total))
