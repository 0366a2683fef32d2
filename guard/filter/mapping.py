"""Functions for the `map` and `filter` of data sets that other libraries hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from guard.calibration import Mode
from guard.errors import EngineError, GuardError, InvalidInput, ServiceError
from guard.filter.columns import JudgedColumns, parse_columns, parts_of
from guard.filter.scores import ADDED, PARTS, added_columns, cuts_of, scores_of
from guard.moderator import Moderator, open_moderator
from guard.verdict import Outcome, Verdict

ERROR = "guard_error"  # the column of why a row has no verdict


@dataclass(frozen=True, slots=True)
class MapFn:
    """A picklable function from the columns of some rows to the columns that are added, or to which rows are kept.

    The model is loaded once in each process, at the first call. keep: None to add columns, an outcome to answer one
    boolean a row. Rows without a verdict have nulls and a reason in `guard_error`, and are never kept.
    """

    model: str | None = None
    policy: str | None = None
    mode: Mode = "balanced"
    threshold: float | None = None
    exclude: tuple[str, ...] = ()
    columns: JudgedColumns = field(default_factory=JudgedColumns)
    keep: Outcome | None = None
    threads: int | None = None

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Any:
        guard = _opened(self.model, self.policy, self.mode, self.threads)
        names = list(batch)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*(batch[name] for name in names), strict=True)]
        made = self._judged(rows, guard)
        if self.keep is not None:
            return [row.get("guard_outcome") == self.keep.value for row in made]
        added = [*ADDED, *([PARTS] if self.columns.several else []), ERROR]
        return {name: [_cell(row.get(name)) for row in made] for name in added}

    def _judged(self, rows: Sequence[Mapping[str, Any]], guard: Moderator) -> list[dict[str, Any]]:
        info = guard.info
        cuts, policy = cuts_of(info, self.threshold), info.policy.without(self.exclude).digest
        parts: list[Any] = []
        for row in rows:
            try:
                parts.append(parts_of(row, self.columns))
            except InvalidInput as problem:
                parts.append(str(problem))
        asked = list(dict.fromkeys(part.conversation for each in parts if isinstance(each, list) for part in each))
        answers = dict(zip(asked, guard.moderate_each(asked, exclude=self.exclude), strict=True))
        if len(asked) > 1 and all(isinstance(answer, EngineError | ServiceError) for answer in answers.values()):
            raise next(answer for answer in answers.values() if isinstance(answer, GuardError))
        made = []
        for each in parts:
            verdicts = [] if isinstance(each, str) else [(part.name, answers[part.conversation]) for part in each]
            failed = [each] if isinstance(each, str) else [str(v) for _, v in verdicts if not isinstance(v, Verdict)]
            if failed:
                made.append({ERROR: failed[0]})
                continue
            scores = [(name, scores_of(verdict)) for name, verdict in verdicts if isinstance(verdict, Verdict)]
            made.append(added_columns(scores, cuts, info.model, policy, self.columns.several))
        return made


def map_fn(
    *,
    model: str | None = None,
    policy: str | None = None,
    mode: Mode = "balanced",
    threshold: float | None = None,
    exclude: Sequence[str] = (),
    columns: str | JudgedColumns = "",
    threads: int | None = None,
) -> MapFn:
    """For `Dataset.map(map_fn(), batched=True)`: the columns that `guard filter` adds, and `guard_error`.

    Objects are JSON text. columns: as of `guard filter --columns`. Each process of `num_proc` loads the model; give
    them threads=1.
    """
    judged = parse_columns(columns) if isinstance(columns, str) else columns
    return MapFn(model, policy, mode, threshold, tuple(exclude), judged, None, threads)


def filter_fn(keep: Outcome | str = Outcome.SAFE, **options: Any) -> MapFn:
    """For `Dataset.filter(filter_fn(), batched=True)`: whether each row has the outcome. options: those of `map_fn`."""
    made = map_fn(**options)
    return MapFn(
        made.model, made.policy, made.mode, made.threshold, made.exclude, made.columns, Outcome(keep), made.threads
    )


@lru_cache(maxsize=1)
def _opened(model: str | None, policy: str | None, mode: Mode, threads: int | None) -> Moderator:
    return open_moderator(model, policy, mode, threads)


def _cell(value: Any) -> Any:
    objects = isinstance(value, list) and any(isinstance(each, dict) for each in value)
    return json.dumps(value) if objects or isinstance(value, dict) else value
