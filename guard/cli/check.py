"""`guard check`: verdicts on one text or on the rows of a JSONL file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.calibration import Mode
from guard.cli import output
from guard.conversation import Conversation, conversation_from_row
from guard.errors import GuardError, InvalidInput

if TYPE_CHECKING:
    from guard.policy import Policy
    from guard.verdict import Verdict

CHUNK = 256
Judge = Callable[[Sequence[Conversation]], Sequence["Verdict | GuardError"]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the input: its id and conversation, or what is wrong with it."""

    line: int
    id: str | None
    conversation: Conversation | None
    error: str | None = None


def check(
    text: Annotated[str | None, typer.Argument(help="The text to judge; - reads one text from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="JSONL rows: prompt and response, or messages.")] = None,
    policy: Annotated[str | None, typer.Option(help="A shipped policy's name or a policy file.")] = None,
    exclude: Annotated[str, typer.Option(help="Category codes to drop, as S6,S13.")] = "",
    mode: Annotated[Mode, typer.Option(help="strict flags more, permissive less.")] = "balanced",
    model: Annotated[str | None, typer.Option(help="A bundle folder; default: the guard that ships.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a `guard serve` to ask instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what the flagged categories mean.")] = False,
) -> None:
    """Judge a text (exit 0 safe, 1 flagged) or every row of a file (exit 0 when all were answered)."""
    if (text is None) == (file is None):
        raise InvalidInput("give either a TEXT (- for standard input) or --file ROWS.jsonl")
    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    rows = _single(text) if text is not None else _rows(file)  # type: ignore[arg-type]
    codes = [code.strip() for code in exclude.split(",") if code.strip()]
    judge, rules = _judge(policy, codes, mode, model, server)
    show = _show_json if as_json else _Table(rules, explain)
    unanswered = flagged = 0
    for row, verdict in _answers(rows, judge, file):
        show(row, verdict)
        unanswered += isinstance(verdict, GuardError) or verdict.outcome.value == "INCOMPLETE"
        flagged += not isinstance(verdict, GuardError) and verdict.outcome.value == "UNSAFE"
        if file is not None and output.lost():
            unanswered += 1  # nobody learns of the rows that are left
            break
    if isinstance(show, _Table):
        show.finish()
    raise typer.Exit(3 if unanswered else int(bool(flagged) and file is None))


def _single(text: str) -> Iterator[Row]:
    if text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as problem:
            raise InvalidInput(
                f"standard input is not UTF-8 (byte {problem.start}); convert it first, for example with iconv"
            ) from None
    if not text.strip():
        raise InvalidInput("the text is empty; give at least one visible character")
    yield Row(1, None, Conversation.of(text))


def _rows(path: Path) -> Iterator[Row]:
    try:
        file = path.open("rb")
    except OSError as problem:
        raise InvalidInput(f"{path}: cannot be read: {problem.strerror}") from None
    with file:
        for line, raw in enumerate(file, 1):
            if raw.strip():
                yield _row(line, raw)


def _row(line: int, raw: bytes) -> Row:
    try:
        plain = json.loads(raw.decode("utf-8-sig"))
        found = plain.get("id") if isinstance(plain, dict) else None
        # A lone surrogate is legal in JSON and cannot be printed.
        name = None if found is None else str(found).encode(errors="replace").decode()
        return Row(line, name, conversation_from_row(plain))
    except UnicodeDecodeError:
        return Row(line, None, None, "not UTF-8")
    except RecursionError:
        return Row(line, None, None, "not JSON: nested too deeply")
    except json.JSONDecodeError as problem:
        return Row(line, None, None, f"not JSON: {problem.msg.removesuffix(' at')} at column {problem.colno}")
    except InvalidInput as problem:
        return Row(line, None, None, str(problem))
    except ValueError:  # of the standard library, about a number of thousands of digits
        return Row(line, None, None, "not JSON that can be read: a number is too long")


def _judge(
    policy: str | None, exclude: list[str], mode: Mode, model: str | None, server: str | None
) -> tuple[Judge, Policy | None]:
    """How to judge a chunk, and the policy in force where it is known here."""
    from guard import policy as policies

    if server is not None:
        from guard.serve.client import GuardClient

        client = GuardClient(server)
        rules = None if policy is None else policies.load(policy)
        return lambda chunk: client.moderate_batch(chunk, policy=rules, exclude=exclude, mode=mode), rules
    from guard.moderator import open_moderator

    moderator = open_moderator(model, policy, mode)
    rules = moderator.policy.without(exclude)
    return lambda chunk: moderator.moderate_each(chunk, rules), rules


def _answers(rows: Iterable[Row], judge: Judge, file: Path | None) -> Iterator[tuple[Row, Verdict | GuardError]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = file is None or not console.is_terminal
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            sound = [row for row in chunk if row.conversation is not None]
            verdicts = dict(
                zip((r.line for r in sound), judge([r.conversation for r in sound if r.conversation]), strict=True)
            )
            for row in chunk:
                yield row, verdicts[row.line] if row.line in verdicts else InvalidInput(row.error or "")
            progress.advance(task, len(chunk))


def _show_json(row: Row, verdict: Verdict | GuardError) -> None:
    from guard.verdict import to_json

    if isinstance(verdict, GuardError):
        answer: dict[str, Any] = {"line": row.line, "error": str(verdict)}
    else:
        answer = {"id": row.id if row.id is not None else str(row.line), **to_json(verdict)}
    typer.echo(json.dumps(answer, ensure_ascii=False))


class _Table:
    """A table for people, printed a chunk at a time is no table: rows are kept until the end, without their text."""

    def __init__(self, rules: Policy | None, explain: bool) -> None:
        from rich.table import Table

        self._rules, self._explain = rules, explain
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

        name = row.id if row.id is not None else str(row.line)
        if isinstance(verdict, GuardError):
            self._broken.append(f"line {row.line}: {verdict}")
            self._table.add_row(Text(f"line {row.line}"), "", Text("ERROR", style="magenta"), "", Text(str(verdict)))
            return
        style = {"SAFE": "green", "UNSAFE": "red", "INCOMPLETE": "magenta"}[verdict.outcome.value]
        self._flagged.update(dict.fromkeys(verdict.flagged))
        flagged = ", ".join(self._named(code) for code in verdict.flagged)
        self._table.add_row(
            Text(name if name.isprintable() else ascii(name)),  # no control sequence reaches the terminal
            verdict.target.value,
            Text(verdict.outcome.value, style=style),
            f"{verdict.p_unsafe:.3f}",
            Text(flagged),
        )

    def _named(self, code: str) -> str:
        return code if self._rules is None else f"{code} {self._rules.category(code).name}"

    def finish(self) -> None:
        from rich.console import Console

        console = Console(soft_wrap=True)
        console.print(self._table)
        if self._explain and self._rules is not None:
            for code in self._flagged:
                category = self._rules.category(code)
                console.print(f"\n{code} {category.name}: {category.definition}", markup=False)
                for line in category.excludes:
                    console.print(f"  not: {line}", markup=False)
        for line in self._broken:
            sys.stderr.write(f"guard: {line}\n")
