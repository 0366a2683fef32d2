"""`guard check`: verdicts on one text or on the rows of a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
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

if TYPE_CHECKING:
    from guard.moderator import Guard
    from guard.policy import Policy
    from guard.verdict import Verdict

CHUNK = 256
STDIN = "-"
_SURROGATE = re.compile("[\ud800-\udfff]")  # legal in JSON, but cannot be printed


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A row of the input: the id that it has there, and its conversation or what is wrong with it."""

    line: int
    id: Any
    conversation: Conversation | None
    error: GuardError | None = None

    @property
    def name(self) -> Any:
        """Its id, or else the number of its line as text."""
        return str(self.line) if self.id is None else self.id


def check(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]", help="The text to judge; - reads one text from standard input."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Rows with prompt and response, or messages: .jsonl, .csv, .tsv, .parquet; - is JSONL."
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="A column of bare texts to judge, with --file.")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy's name or file; default: the model's own.")] = None,
    exclude: Annotated[str, typer.Option(help="Category codes to drop, as S6,S13.")] = "",
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="strict flags more, permissive less; default: balanced, or the server's.", show_default=False
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A bundle folder; default: the guard that ships.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a `guard serve` to ask instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what the flagged categories mean.")] = False,
    fail_on: Annotated[
        Literal["unsafe"] | None, typer.Option(help="Exit with 1, too, if a row of --file is flagged.")
    ] = None,
) -> None:
    """Judge a text (exit 0 safe, 1 flagged) or every row of a file (exit 0 when all were answered)."""
    from guard.serve.client import open_guard

    if (text is None) == (file is None):
        raise InvalidInput("give either a TEXT (- for standard input) or --file ROWS.jsonl")
    if text is not None and len(text) > 1:  # not shown: they are a user's words
        raise InvalidInput(f"give one TEXT (got {len(text)}); put quotes around it")
    if text_column is not None and file is None:
        raise InvalidInput("--text-column names a column of --file")
    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    rows = _single(text[0]) if text is not None else _rows(file, text_column)  # type: ignore[arg-type]
    codes = [code.strip() for code in exclude.split(",") if code.strip()]
    answered = unanswered = flagged = 0
    with open_guard(model, server, policy, mode) as guard:
        # The table has the categories' names; JSON needs no more than the verdicts.
        show = _show_json if as_json else _Table(guard.info.policy.without(codes), explain, file is not None)
        for row, verdict in _answers(rows, guard, codes, file):
            show(row, verdict)
            answered += 1
            unanswered += isinstance(verdict, GuardError) or verdict.outcome.value == "INCOMPLETE"
            flagged += not isinstance(verdict, GuardError) and verdict.outcome.value == "UNSAFE"
            if file is not None and output.lost():
                unanswered += 1  # nobody learns of the rows that are left
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
            raise InvalidInput(f"standard input is too long: at most {LONGEST:,} bytes are judged; send it in parts")
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
    rows: Iterable[Row], guard: Guard, exclude: Sequence[str], file: Path | None
) -> Iterator[tuple[Row, Verdict | GuardError]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = file is None or not console.is_terminal
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            conversations = [row.conversation for row in chunk if row.conversation is not None]
            verdicts = iter(guard.moderate_each(conversations, exclude=exclude) if conversations else ())
            for row in chunk:
                yield row, row.error or next(verdicts)
            progress.advance(task, len(chunk))


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
    """A table for people, printed a chunk at a time is no table: rows are kept until the end, without their text."""

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
    """No control sequence reaches the terminal."""
    return name if name.isprintable() else ascii(name)
