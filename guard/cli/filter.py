"""`guard filter`: keep the safe (or the unsafe) rows of files and account for the rest."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from guard.cli.options import ExcludeOption, ModelOption, ModeOption, PolicyOption, ServerOption, ThresholdOption
from guard.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from guard.filter.columns import JudgedColumns
    from guard.filter.job import Job
    from guard.filter.run import Page
    from guard.filter.tally import Tally
    from guard.mode import Mode
    from guard.moderator import Guard

_ROWS, _OUTPUT, _RUN = "What is judged", "What is written", "How it runs"
Keep = Literal["safe", "unsafe", "all"]
Turns = Literal["last", "all"]

NOTHING_JUDGED = 3
_SERVER_CALLS = 4
_PATIENCE_S = 300.0


def filter_rows(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Rows: .jsonl, .csv or .tsv, also with .gz or .zst, .parquet, .arrow; folders of them, saved data "
            "sets, quoted globs, or - for JSONL from standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The kept rows: a file in the same format, or a folder (no suffix) with a file for each input.",
            show_default=False,
        ),
    ],
    keep: Annotated[Keep, typer.Option(help="Which rows go to OUT.", rich_help_panel=_OUTPUT)] = "safe",
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Write all rows with their scores; drop none.", rich_help_panel=_OUTPUT)
    ] = False,
    threshold: ThresholdOption = None,
    policy: PolicyOption = None,
    exclude: ExcludeOption = "",
    mode: ModeOption = None,
    columns: Annotated[
        str,
        typer.Option(
            metavar="ROLE=COLUMN,…",
            help="Which columns are judged: text; messages; prompt, response; chosen, rejected. "
            "Default: messages, or prompt and response.",
            rich_help_panel=_ROWS,
        ),
    ] = "",
    text_column: Annotated[
        str | None, typer.Option(help="The same as --columns text=COLUMN.", rich_help_panel=_ROWS)
    ] = None,
    turns: Annotated[
        Turns, typer.Option(help="Judge the last message, or each after those before it.", rich_help_panel=_ROWS)
    ] = "last",
    scored: Annotated[
        bool,
        typer.Option(
            "--scored",
            help="INPUT has the scores of an earlier run: decide anew, score nothing.",
            rich_help_panel=_ROWS,
        ),
    ] = False,
    model: ModelOption = None,
    server: ServerOption = None,
    on: Annotated[
        Literal["local", "ray", "server"] | None,
        typer.Option(
            help="Where texts are scored: here, on a Ray cluster, or by --server.",
            show_default="local",
            rich_help_panel=_RUN,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the Ray cluster; default: this machine's, or a new one.", rich_help_panel=_RUN),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the scores of texts in FILE, for later runs.", rich_help_panel=_RUN),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Compare the values of COLUMN in the report, not the files.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(help="For broken and undecided rows; default: OUT.quarantine.jsonl.", rich_help_panel=_OUTPUT),
    ] = None,
    report: Annotated[
        bool | None,
        typer.Option(help="Write OUT.report.html; default: if matplotlib is installed.", rich_help_panel=_OUTPUT),
    ] = None,
    shard_rows: Annotated[
        int, typer.Option(min=1, help="Rows that are committed together.", rich_help_panel=_RUN)
    ] = 5000,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished run of OUT.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Judge every row of INPUT and write the kept ones to OUT. A killed run resumes when it is started again.

    They get the columns guard_outcome, guard_p_unsafe, guard_flagged, guard_categories, guard_coverage, guard_model and
    guard_policy.

    Every row is kept, dropped or quarantined; the counts are in OUT.report.json. Exit code 3 if there were rows and
    none could be judged.

    Example: guard filter chats.jsonl kept.jsonl --mode strict
    """
    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    from guard.filter.job import Job
    from guard.filter.run import filter_rows as run
    from guard.report.progress import progress_bar

    on = on or ("local" if server is None else "server")
    if (on == "server") != (server is not None):
        raise InvalidInput(f"--on {on} {'needs' if server is None else 'excludes'} --server HOST:PORT")
    codes = tuple(code.strip() for code in exclude.split(",") if code.strip())
    report = report if report is not None else importlib.util.find_spec("matplotlib") is not None
    job = Job(
        inputs,
        out,
        quarantine or out.with_name(f"{out.name}.quarantine.jsonl"),
        keep,
        annotate,
        threshold,
        codes,
        _columns(columns, text_column, turns),
        scored,
        by,
        shard_rows,
    )
    with (
        _opened(on, model, server, policy, mode, ray_address) as guard,
        progress_bar(_label(inputs), unit="rows") as bar,
    ):
        seen = unsafe = 0

        def show(rows: int, more: int) -> None:
            nonlocal seen, unsafe
            seen, unsafe = seen + rows, unsafe + more
            bar.advance(rows, f"{_label(inputs)}, {unsafe / max(seen, 1):.1%} unsafe")

        tally = run(
            job,
            guard,
            restart,
            show,
            page=_page(guard) if report else None,
            total=(lambda rows: bar.advance(0, total=rows)) if bar.shown else None,
            cache=cache,
            parallel=_SERVER_CALLS if on == "server" else getattr(guard, "parallel", 1),
            patience_s=_PATIENCE_S if on == "server" else 0.0,
        )
    _summarise(job, tally)
    if 0 < tally.read == tally.quarantined:
        raise typer.Exit(NOTHING_JUDGED)


def _opened(
    on: str, model: str | None, server: str | None, policy: str | None, mode: Mode | None, ray_address: str | None
) -> Guard:
    if on == "ray":
        from guard.filter.ray import RayGuard

        return RayGuard(model, policy, mode or "balanced", ray_address)
    from guard.serve.client import open_guard

    return open_guard(model, server, policy, mode, priority="batch")


def _page(guard: Guard) -> Page:
    from guard.filter.report import page

    names = {category.code: category.name for category in guard.info.policy.categories}
    return lambda report, examples: page(report, examples, names)


def _columns(mapping: str, text_column: str | None, turns: Turns) -> JudgedColumns:
    from guard.filter.columns import parse_columns

    if text_column is None:
        return parse_columns(mapping, turns)
    if mapping:
        raise ConfigError("--text-column and --columns exclude each other; give --columns alone")
    return parse_columns(f"text={text_column}", turns)


def _label(inputs: list[str]) -> str:
    return Path(inputs[0]).name if len(inputs) == 1 else f"{len(inputs)} inputs"


def _summarise(job: Job, tally: Tally) -> None:
    typer.echo(
        f"read {tally.read} = kept {tally.kept} + dropped {tally.dropped} + quarantined {tally.quarantined}; "
        f"scored {tally.scored} texts"
    )
    for title, counts in (("outcome", tally.outcomes), ("flagged", tally.flagged), ("quarantined", tally.reasons)):
        for name, count in sorted(counts.items()):
            typer.echo(f"  {title} {name}: {count}")
    typer.echo(f"kept rows: {job.out}  quarantine: {job.quarantine}  report: {job.report}")
    if job.page.exists():
        typer.echo(f"page: {job.page}")
