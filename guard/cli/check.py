"""`guard check`: verdicts on one text or on the rows of a file."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guard.cli import output
from guard.cli.check_rows import CHUNK, STDIN, Row, file_rows, single_row
from guard.cli.options import ExcludeOption, ModelOption, ModeOption, PolicyOption, ServerOption, ThresholdOption
from guard.errors import GuardError, InvalidInput

if TYPE_CHECKING:
    from guard.cli.verdict_lines import Line
    from guard.moderator import Guard
    from guard.report.progress import ProgressBar
    from guard.serve.core.language import Noting
    from guard.verdict import Verdict

_ROWS, _OUTPUT = "Rows of a file", "Output"
MOST_ERRORS = 20  # of broken rows that are told to people
_SURROGATE = re.compile("[\ud800-\udfff]")  # legal in JSON, but cannot be printed


def check(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="The text to judge; - reads it from standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="ROWS",
            help="Rows with prompt and response, or messages: .jsonl, .csv, .tsv, .parquet; - is JSONL.",
            show_default=False,
            rich_help_panel=_ROWS,
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of bare texts to judge, with --file.",
            show_default=False,
            rich_help_panel=_ROWS,
        ),
    ] = None,
    policy: PolicyOption = None,
    exclude: ExcludeOption = "",
    mode: ModeOption = None,
    threshold: ThresholdOption = None,
    unsupported_language: Annotated[
        Literal["incomplete", "judge"],
        typer.Option(help="What a text in a language that the model was not trained for is, if it is not flagged."),
    ] = "incomplete",
    model: ModelOption = None,
    server: ServerOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per row.", rich_help_panel=_OUTPUT)
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show the text of the worst window, its view, and what the policy says of it.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    fail_on: Annotated[
        Literal["unsafe"] | None,
        typer.Option(
            help="Exit with 1 also if a row of --file is flagged.", show_default=False, rich_help_panel=_OUTPUT
        ),
    ] = None,
) -> None:
    """Judge a text (exit 0 safe, 1 flagged) or every row of a file (exit 0 when all were answered).

    Example: guard check "How do I whittle a spoon?" --explain
    """
    if (text is None) == (file is None):
        raise InvalidInput("give either a TEXT (- for standard input) or --file ROWS.jsonl")
    if text is not None and len(text) > 1:  # the message must not show user text
        raise InvalidInput(f"give one TEXT (got {len(text)}); put quotes around it")
    if text_column is not None and file is None:
        raise InvalidInput("--text-column names a column of --file")
    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    if explain and as_json:
        raise InvalidInput("--explain is for people and --json for programs; give one of them")
    from guard.report.progress import progress_bar
    from guard.serve.client import open_guard
    from guard.serve.core.language import noting

    rows = single_row(text[0]) if text is not None else file_rows(file, text_column)  # type: ignore[arg-type]
    codes = [code.strip() for code in exclude.split(",") if code.strip()]
    answered = unanswered = flagged = 0
    with (
        open_guard(model, server, policy, mode) as guard,
        nullcontext() if file is None else progress_bar("rows") as bar,
    ):
        show = _show_json if as_json else _People(guard, codes, explain, file is not None)
        note = noting(guard, unsupported_language)
        for row, verdict in _answers(rows, guard, codes, threshold, note, bar):
            show(row, verdict)
            answered += 1
            unanswered += isinstance(verdict, GuardError) or verdict.outcome.value == "INCOMPLETE"
            flagged += not isinstance(verdict, GuardError) and verdict.outcome.value == "UNSAFE"
            if file is not None and output.lost():
                unanswered += 1  # nobody would see the remaining rows
                break
        if not answered:
            where = "standard input" if str(file) == STDIN else file
            typer.echo(f"guard: warning: {where}: has no rows", err=True)
        elif isinstance(show, _People):
            show.finish()
    raise typer.Exit(3 if unanswered else int(bool(flagged) and (file is None or fail_on == "unsafe")))


def _answers(
    rows: Iterable[Row],
    guard: Guard,
    exclude: Sequence[str],
    threshold: float | None,
    note: Noting,
    bar: ProgressBar | None,
) -> Iterator[tuple[Row, Verdict | GuardError]]:
    decide = _deciding(guard, threshold)
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        conversations = [row.conversation for row in chunk if row.conversation is not None]
        answers = guard.moderate_each(conversations, exclude=exclude) if conversations else ()
        verdicts = iter(note(conversations, list(map(decide, answers))))
        for row in chunk:
            yield row, row.error or next(verdicts)
        if bar is not None:
            bar.advance(len(chunk))


def _deciding(guard: Guard, threshold: float | None) -> Callable[[Verdict | GuardError], Verdict | GuardError]:
    """Decides anew on a verdict, by a threshold in place of the mode's, where there is one."""
    if threshold is None:
        return lambda answer: answer
    from guard.filter.scores import cuts_of, decided, scores_of

    cuts = cuts_of(guard.info, threshold)

    def decide(answer: Verdict | GuardError) -> Verdict | GuardError:
        if isinstance(answer, GuardError):
            return answer
        outcome, flagged = decided(scores_of(answer), cuts)
        return dataclasses.replace(answer, outcome=outcome, flagged=flagged, threshold=threshold)

    return decide


def _show_json(row: Row, verdict: Verdict | GuardError) -> None:
    from guard.jobs.rows import as_json
    from guard.verdict import to_json

    answer: dict[str, Any] = {"id": row.name}
    if isinstance(verdict, GuardError):
        answer |= {"outcome": "ERROR", "line": row.line, "error": str(verdict)}
    else:
        answer |= to_json(verdict)
    line = json.dumps(answer, ensure_ascii=False, default=as_json)
    typer.echo(json.dumps(answer, default=as_json) if _SURROGATE.search(line) else line)


class _People:
    """Verdicts for people: one in full, many as a table, which is kept to the end so that its columns align."""

    def __init__(self, guard: Guard, exclude: Sequence[str], explain: bool, many: bool) -> None:
        self._guard, self._info, self._explain, self._many = guard, guard.info, explain, many
        self._policy = self._info.policy.without(exclude)
        self._answers: list[tuple[str, Verdict | None]] = []
        self._explanations: list[Line] = []
        self._broken: list[str] = []

    def __call__(self, row: Row, verdict: Verdict | GuardError) -> None:
        from guard.cli.verdict_lines import explanation_lines

        if isinstance(verdict, GuardError):
            self._broken.append(f"line {row.line}: {verdict}" if self._many else str(verdict))
            self._answers.append((_name(row), None))
            return
        self._answers.append((_name(row), verdict))
        if self._explain and row.conversation is not None and not (self._many and verdict.outcome.value == "SAFE"):
            self._explanations += [[], [(f"row {_name(row)}", "bold underline")]] if self._many else [[]]
            self._explanations += explanation_lines(
                row.conversation, verdict, self._policy, self._guard, self._calibrated()
            )

    def finish(self) -> None:
        from guard.cli.verdict_lines import on_terminal, show, uncalibrated_lines, verdict_lines

        if self._many:
            self._show_table()
            if strange := self._uncalibrated():
                show([[], *uncalibrated_lines(strange, self._policy)])
        else:
            for _, verdict in self._answers:
                if verdict is not None:
                    show(verdict_lines(verdict, self._policy, self._info, self._uncalibrated(), on_terminal()))
        show(self._explanations)
        for line in self._broken[:MOST_ERRORS]:
            sys.stderr.write(f"guard: {line}\n")
        if (more := len(self._broken) - MOST_ERRORS) > 0:
            sys.stderr.write(f"guard: {more:,} more rows are broken; --json tells the error of each\n")

    def _uncalibrated(self) -> tuple[str, ...]:
        from guard.moderator import Moderator

        return self._guard.uncalibrated(self._policy) if isinstance(self._guard, Moderator) else ()

    def _calibrated(self) -> str:
        from guard.moderator import Moderator

        if not isinstance(self._guard, Moderator):
            return "a server does not say"
        if self._guard.calibrated_for is None:
            return "no: this model has no calibration"
        strange, own = self._uncalibrated(), self._guard.calibrated_for
        fitted = f"{own.id} {own.version}"
        return f"for {fitted}, not for {', '.join(strange)}" if strange else f"yes, fitted on {fitted}"

    def _show_table(self) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from guard.cli.verdict_lines import STYLES

        table = Table(box=None, pad_edge=False)
        for column in ("row", "judged", "outcome", "p(unsafe)", "flagged"):
            table.add_column(column, justify="right" if column == "p(unsafe)" else "left")
        for name, verdict in self._answers:
            if verdict is None:
                table.add_row(Text(name), "", Text("ERROR", style=STYLES["ERROR"]))
                continue
            outcome = verdict.outcome.value
            flagged = ", ".join(f"{code} {self._policy.category(code).name}" for code in verdict.flagged)
            table.add_row(
                Text(name),
                verdict.target.value,
                Text(outcome, style=STYLES[outcome]),
                f"{verdict.p_unsafe:.3f}",
                Text(flagged),
            )
        Console(soft_wrap=True).print(table)


def _name(row: Row) -> str:
    """The name of a row, escaped where it could send control sequences to the terminal."""
    from guard.jobs.rows import as_json

    name = row.name if isinstance(row.name, str) else json.dumps(row.name, ensure_ascii=False, default=as_json)
    return name if name.isprintable() else ascii(name)
