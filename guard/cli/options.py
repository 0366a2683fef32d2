"""Options that several commands share: one spelling, one help text, and the names that a shell completes."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.cli import names
from guard.errors import ConfigError
from guard.mode import Mode

GUARD = "The guard"


def _address(given: str | None) -> str | None:
    if given is not None and not given.rpartition(":")[0]:
        raise ConfigError(f"--server must be HOST:PORT, like 127.0.0.1:50051 (got {given[:80]!r})")
    return given


def _probability(given: float | None) -> float | None:
    if given is not None and not 0 < given < 1:
        raise ConfigError(f"--threshold must be > 0 and < 1 (got {given:g})")
    return given


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="BUNDLE",
        help="A bundle folder, or a guard's name; default: the shipped guard.",
        autocompletion=names.bundles,
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="A running `guard serve` to use instead.",
        callback=_address,
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME|FILE",
        help="A policy's name or file; default: the model's or the server's own.",
        autocompletion=names.policies,
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    str,
    typer.Option(
        "--exclude",
        metavar="CODES",
        help="Categories to leave out, like S6,S13.",
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        help="strict flags more, permissive less; default: balanced, or the server's own.",
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="P",
        help="UNSAFE from this p(unsafe) on; default: the mode's.",
        callback=_probability,
        rich_help_panel=GUARD,
        show_default=False,
    ),
]
