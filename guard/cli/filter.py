"""`guard filter`: keep the safe (or the unsafe) rows of a file and account for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guard.calibration import Mode
from guard.errors import InvalidInput
from guard.filter.job import SHARD_ROWS, Job, Keep, Tally, filter_file
from guard.report.progress import progress_bar

NOTHING_JUDGED = 3


def filter_rows(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows: .jsonl, .csv, .tsv or .parquet.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The kept rows, in the same format.", show_default=False)],
    keep: Annotated[Keep, typer.Option(help="Which rows go to OUT.")] = "safe",
    policy: Annotated[str | None, typer.Option(help="A policy's name or file; default: the model's own.")] = None,
    exclude: Annotated[str, typer.Option(metavar="CODES", help="Categories to leave out, like S6,S13.")] = "",
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="strict flags more, permissive less; default: balanced, or the server's.", show_default=False
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="BUNDLE", help="A bundle; default: the shipped guard.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a running `guard serve` to use instead.")] = None,
    text_column: Annotated[str | None, typer.Option(help="A column of bare texts to judge.")] = None,
    quarantine: Annotated[
        Path | None, typer.Option(help="For broken and undecided rows; default: OUT.quarantine.jsonl.")
    ] = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows that are committed together.")] = SHARD_ROWS,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished run of OUT.")] = False,
) -> None:
    """Judge every row of IN and write the kept ones to OUT, with the columns guard_outcome, guard_p_unsafe,
    guard_flagged and guard_categories added. A killed run resumes when it is started again.

    Rows have `messages`, or `prompt` with an optional `response`. Every row is kept, dropped or quarantined; the counts
    are in OUT.report.json. Exit code 3 if there were rows and none could be judged.
    """
    from guard.serve.client import open_guard

    if server is not None and model is not None:
        raise InvalidInput("--model and --server exclude each other: the server has its own model")
    quarantine = quarantine or out.with_name(f"{out.name}.quarantine.jsonl")
    codes = tuple(code.strip() for code in exclude.split(",") if code.strip())
    job = Job(source, out, quarantine, keep, text_column, codes, shard_rows)
    with open_guard(model, server, policy, mode) as guard, progress_bar(source.name, lambda: _total(job)) as bar:
        tally = filter_file(job, guard, restart, bar.advance)
    _summarise(job, tally)
    if 0 < tally.read == tally.quarantined:
        raise typer.Exit(NOTHING_JUDGED)


def _total(job: Job) -> int | None:
    return job.rows().total() if job.source.is_file() else None


def _summarise(job: Job, tally: Tally) -> None:
    typer.echo(
        f"read {tally.read} = kept {tally.kept} + dropped {tally.dropped} + quarantined {tally.quarantined}; "
        f"scored {tally.scored} texts"
    )
    for title, counts in (("outcome", tally.outcomes), ("flagged", tally.flagged), ("quarantined", tally.reasons)):
        for name, count in sorted(counts.items()):
            typer.echo(f"  {title} {name}: {count}")
    typer.echo(f"kept rows: {job.out}  quarantine: {job.quarantine}  report: {job.report}")
