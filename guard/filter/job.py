"""A filtering job: what is judged, what is kept, and where the results go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from guard.errors import ConfigError, DataError
from guard.filter.columns import JudgedColumns
from guard.filter.scores import ADDED, PARTS
from guard.jobs.rows import Kind, RowFile, open_rows

Keep = Literal["safe", "unsafe", "all"]
SHARD_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Job:
    """inputs: files, folders, globs, or `-`. out: a file, or a folder for a file for each input.

    keep: the outcome of the rows that go to `out`; INCOMPLETE rows never do. annotate: all rows that can be judged do,
    INCOMPLETE ones too. threshold: of p_unsafe, in place of the guard's. exclude: codes of the policy to ignore.
    scored: the rows have the scores of an earlier run, which are decided on anew. by: the column whose values the
    report compares; None: the files. A run reads its inputs more than once.
    """

    inputs: Sequence[str | Path]
    out: Path
    quarantine: Path
    keep: Keep = "safe"
    annotate: bool = False
    threshold: float | None = None
    exclude: tuple[str, ...] = ()
    columns: JudgedColumns = field(default_factory=JudgedColumns)
    scored: bool = False
    by: str | None = None
    shard_rows: int = SHARD_ROWS

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise ConfigError(f"unknown outcome to keep {self.keep!r}; allowed: {', '.join(get_args(Keep))}")
        if self.shard_rows < 1:
            raise ConfigError(f"shard_rows must be >= 1 (got {self.shard_rows})")
        if not self.inputs:
            raise ConfigError("a job needs at least one input")

    @property
    def adding(self) -> Mapping[str, Kind]:
        """The columns that rows get."""
        return {**ADDED, PARTS: "object"} if self.columns.several else ADDED

    def rows(self, path: Path) -> RowFile:
        also = () if self.by is None else (self.by,)
        rows = open_rows(
            path,
            self.columns.read,
            also=None if self.scored else also,
            adding=self.adding,
            replacing=self.scored,
        )
        if problem := rows.missing((*self.columns.named, *also)):
            raise DataError(f"{path}: {problem}")
        return rows

    def settings(self) -> dict[str, Any]:
        """What the results depend on besides the inputs and the guard."""
        columns = self.columns
        return {
            "keep": "annotated" if self.annotate else self.keep,
            "threshold": self.threshold,
            "columns": [*columns.conversation.names, *(columns.answers or {}).values()],
            "turns": columns.turns,
            "scored": self.scored,
            "by": self.by,
            "shard_rows": self.shard_rows,
        }

    @property
    def parts(self) -> Path:
        return self._beside("parts")

    @property
    def report(self) -> Path:
        return self._beside("report.json")

    @property
    def page(self) -> Path:
        return self._beside("report.html")

    def _beside(self, suffix: str) -> Path:
        return self.out.with_name(f"{self.out.name}.{suffix}")
