"""The `guard` command: one noun a file. Errors that guard raises on purpose become one line on stderr.

Exit codes: 0 safe or done, 1 flagged (single text only), 2 usage, 3 could not decide or a broken row.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
import typer.core

from guard.cli import check, data, doctor, evaluate, export, filter, policy, redteam, serve, train
from guard.errors import BundleError, EngineError, GuardError, ServiceError

USAGE, UNDECIDED = 2, 3


class _Commands(typer.core.TyperGroup):
    """Ends with 0 where the reader of our output went away; Typer would end with 1, which means flagged."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None


app = typer.Typer(
    name="guard",
    cls=_Commands,
    help="A safety guard for chats and data sets. Exit codes: 0 safe or done, 1 flagged, 2 usage, 3 could not decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check.check)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("eval")(evaluate.evaluate)
app.command("redteam")(redteam.redteam)
app.command("doctor")(doctor.doctor)
app.command("filter")(filter.filter_rows)
app.add_typer(data.app, name="data", help="Build labelled training data from described sources.")
app.add_typer(policy.app, name="policy", help="List, show, write, validate, compare and map policies.")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from guard.cli.version import version_text

    typer.echo(version_text())
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Package, model and policy digests.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["GUARD_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        app(args=arguments)
    except GuardError as error:
        if os.environ.get("GUARD_DEBUG"):
            raise
        sys.stderr.write(f"guard: {error}\n")
        sys.exit(UNDECIDED if isinstance(error, BundleError | EngineError | ServiceError) else USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
