"""The `guard` command: one noun a file. Errors that guard raises on purpose become one line on stderr.

Exit codes: 0 safe or done, 1 flagged (single text only), 2 usage, 3 could not decide, a broken row, or an internal
error.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from guard.cli import output
from guard.cli.commands import Commands
from guard.errors import BundleError, ConfigError, EngineError, GuardError, NoBundle, OutputError, ServiceError

USAGE, UNDECIDED = 2, 3
_UsageError = cast(type[Exception], typer.BadParameter.__base__)  # of click, or of the click inside typer

app = typer.Typer(
    name="guard",
    cls=Commands,
    help="A safety guard for chats and data sets. Exit codes: 0 safe or done, 1 flagged, 2 usage, 3 could not decide.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if not show:
        return
    from guard.cli.version import version_text

    typer.echo(version_text())
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Package, model and policy digests."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, no warnings.")] = False,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, show_default=False, help="Log progress; -vv logs more."),
    ] = 0,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["GUARD_DEBUG"] = "1"
    _set_log_level(quiet, verbose)


def _set_log_level(quiet: bool, verbose: int) -> None:
    """Sets the log level of guard; progress bars need WARNING. Other packages stay at WARNING: their logs may contain
    user text.
    """
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other; give one of them")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = logging.ERROR if quiet else (logging.NOTSET, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.getLogger("guard").setLevel(level)


@cache
def _command() -> Callable[..., object]:
    """What click runs; typer derives it from the annotations, which takes longer than to moderate a text."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code, even if its output cannot be written."""
    stdout = sys.stdout
    sys.stdout = cast(TextIO, output.Output(stdout))
    code: str | int | None
    try:
        try:
            code = cast(int | None, _command()(args=arguments, prog_name="guard", standalone_mode=False)) or 0
        except SystemExit as end:
            code = end.code
        except _UsageError as error:
            sys.stderr.write(_misused(error))
            code = USAGE
        except typer.Abort:
            code = 130
        sys.stdout.flush()
    except GuardError as error:
        if os.environ.get("GUARD_DEBUG"):
            raise
        sys.stderr.write(f"guard: {error}\n")
        undecided = isinstance(error, BundleError | EngineError | ServiceError | OutputError)
        code = UNDECIDED if undecided and not isinstance(error, NoBundle) else USAGE
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if os.environ.get("GUARD_DEBUG"):
            raise
        sys.stderr.write(f"guard: {_internal(error)}\n")
        code = UNDECIDED  # Python would end with 1, which means flagged
    finally:
        sys.stdout = stdout
    sys.exit(code)


def _misused(error: Any) -> str:
    """The line on a command that was called wrongly; nothing where it has shown its help instead."""
    message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    command = "guard" if error.ctx is None else error.ctx.command_path
    see = " See" if message.endswith("?") else "; see"
    return f"guard: {message}{see}: {command} --help\n" if message else ""


def _internal(error: Exception) -> str:
    """The message of an internal error: type and location only, since its own message may contain user text."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"internal error: {type(error).__name__} at {where}; run `guard --debug ...` for the traceback and report it"
