"""`guard check`: verdicts on one text or on the rows of a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guard.calibration import Mode
from guard.cli import output
from guard.conversation import LONGEST, Conversation, ConversationColumns, conversation_from_row
from guard.errors import GuardError, InvalidInput
from guard.jobs.rows import as_json, open_rows
from guard.report.progress import progress_bar

if TYPE_CHECKING:
    from guard.moderator import Guard
    from guard.policy import Policy
    from guard.report.progress import ProgressBar
    from guard.verdict import Verdict

CHUNK = 256
STDIN = "-"
_SURROGATE = re.compile("[\ud800-\udfff]")  # legal in JSON, but cannot be printed


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A row of the input: its id there, and its conversation or the error."""

    line: int
    id: Any
    conversation: Conversation | None
    error: GuardError | None = None

    @property
    def name(self) -> Any:
        """The id, or the line number as text where the row has none."""
        return str(self.line) if self.id is None else self.id


def check(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]", help="The text to judge; - reads it from standard input."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Rows with prompt and response, or messages: .jsonl, .csv, .tsv, .parquet; - is JSONL."
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="A column of bare texts to judge, with --file.")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy's name or file; default: the model's own.")] = None,
    exclude: Annotated[str, typer.Option(help="Category codes to leave out, like S6,S13.")] = "",
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="strict flags more, permissive less; default: balanced, or the server's.", show_default=False
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A bundle folder; default: the shipped guard.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a running `guard serve` to use instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the definitions of the flagged categories.")] = False,
    fail_on: Annotated[
        Literal["unsafe"] | None, typer.Option(help="Exit with 1 also if a row of --file is flagged.")
    ] = None,
) -> None:
    """Judge a text (exit 0 safe, 1 flagged) or every row of a file (exit 0 when all were answered)."""
    from guard.serve.client import open_guard

    if (text is None) == (file is None):
        raise InvalidInput("give either a TEXT (- for standard input) or --file ROWS.jsonl")
    if text is not None and len(text) > 1:  # the message must not show user text
        raise InvalidInput(f"give one TEXT (got {len(text)}); put quotes around it")
    if text_column is not None and file is None:
        raise InvalidInput("--text-column names a column of --file")
    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    rows = _single(text[0]) if text is not None else _rows(file, text_column)  # type: ignore[arg-type]
    codes = [code.strip() for code in exclude.split(",") if code.strip()]
    answered = unanswered = flagged = 0
    with (
        open_guard(model, server, policy, mode) as guard,
        nullcontext() if file is None else progress_bar("rows") as bar,
    ):
        # The table shows the categories' names; JSON needs only the verdicts.
        show = _show_json if as_json else _Table(guard.info.policy.without(codes), explain, file is not None)
        for row, verdict in _answers(rows, guard, codes, bar):
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
    elif isinstance(show, _Table):
        show.finish()
    raise typer.Exit(3 if unanswered else int(bool(flagged) and (file is None or fail_on == "unsafe")))


def _single(text: str) -> Iterator[Row]:
    if text == STDIN:
        raw = sys.stdin.buffer.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise InvalidInput(f"standard input is too long: must be <= {LONGEST:,} bytes; split the text")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise InvalidInput(
                f"standard input is not UTF-8 (byte {problem.start}); convert it first, for example with iconv"
            ) from None
    if not text.strip():
        raise InvalidInput("the text is empty; give at least one visible character")
    yield Row(1, None, Conversation.of(text))


def _rows(file: Path, text_column: str | None) -> Iterator[Row]:
    columns = ConversationColumns.of_text(text_column)
    source = None if str(file) == STDIN else file
    for shard in open_rows(source, columns, also=("id",)).shards(CHUNK):
        for index in range(len(shard)):
            name, line = None, shard.number(index)
            try:
                row = shard.row(index)
                name = row.get("id")
                yield Row(line, name, conversation_from_row(row, columns))
            except InvalidInput as problem:
                yield Row(line, name, None, problem)


def _answers(
    rows: Iterable[Row], guard: Guard, exclude: Sequence[str], bar: ProgressBar | None
) -> Iterator[tuple[Row, Verdict | GuardError]]:
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        conversations = [row.conversation for row in chunk if row.conversation is not None]
        verdicts = iter(guard.moderate_each(conversations, exclude=exclude) if conversations else ())
        for row in chunk:
            yield row, row.error or next(verdicts)
        if bar is not None:
            bar.advance(len(chunk))


def _show_json(row: Row, verdict: Verdict | GuardError) -> None:
    from guard.verdict import to_json

    answer: dict[str, Any] = {"id": row.name}
    if isinstance(verdict, GuardError):
        answer |= {"outcome": "ERROR", "line": row.line, "error": str(verdict)}
    else:
        answer |= to_json(verdict)
    line = json.dumps(answer, ensure_ascii=False, default=as_json)
    typer.echo(json.dumps(answer, default=as_json) if _SURROGATE.search(line) else line)


class _Table:
    """A table for people. Rows are kept until the end, without their text, so that the columns align."""

    def __init__(self, policy: Policy, explain: bool, many: bool) -> None:
        from rich.table import Table

        self._policy, self._explain, self._many = policy, explain, many
        self._table = Table(box=None, pad_edge=False)
        for name, justify in (
            ("row", "left"),
            ("judged", "left"),
            ("outcome", "left"),
            ("p(unsafe)", "right"),
            ("flagged", "left"),
        ):
            self._table.add_column(name, justify=justify)  # type: ignore[arg-type]
        self._flagged: dict[str, None] = {}
        self._broken: list[str] = []

    def __call__(self, row: Row, verdict: Verdict | GuardError) -> None:
        from rich.text import Text

        name = row.name if isinstance(row.name, str) else json.dumps(row.name, ensure_ascii=False, default=as_json)
        if isinstance(verdict, GuardError):
            self._broken.append(f"line {row.line}: {verdict}" if self._many else str(verdict))
            self._table.add_row(Text(_printable(name)), "", Text("ERROR", style="magenta"))
            return
        style = {"SAFE": "green", "UNSAFE": "red", "INCOMPLETE": "magenta"}[verdict.outcome.value]
        self._flagged.update(dict.fromkeys(verdict.flagged))
        flagged = ", ".join(self._named(code) for code in verdict.flagged)
        self._table.add_row(
            Text(_printable(name)),
            verdict.target.value,
            Text(verdict.outcome.value, style=style),
            f"{verdict.p_unsafe:.3f}",
            Text(flagged),
        )

    def _named(self, code: str) -> str:
        return f"{code} {self._policy.category(code).name}"

    def finish(self) -> None:
        from rich.console import Console

        console = Console(soft_wrap=True)
        console.print(self._table)
        if self._explain:
            for code in self._flagged:
                category = self._policy.category(code)
                console.print(f"\n{code} {category.name}: {category.definition}", markup=False)
                for line in category.excludes:
                    console.print(f"  not: {line}", markup=False)
        for line in self._broken:
            sys.stderr.write(f"guard: {line}\n")


def _printable(name: str) -> str:
    """The name, escaped where it could send control sequences to the terminal."""
    return name if name.isprintable() else ascii(name)
