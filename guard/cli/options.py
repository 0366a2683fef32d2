"""Options that several commands share: one spelling, one help text, and the names that a shell completes."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.cli import names
from guard.mode import Mode

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="BUNDLE",
        help="A bundle folder, or a guard's name; default: the shipped guard.",
        autocompletion=names.bundles,
        show_default=False,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="A running `guard serve` to use instead.", show_default=False),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME|FILE",
        help="A policy's name or file; default: the model's or the server's own.",
        autocompletion=names.policies,
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    str, typer.Option("--exclude", metavar="CODES", help="Categories to leave out, like S6,S13.", show_default=False)
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        help="strict flags more, permissive less; default: balanced, or the server's own.",
        show_default=False,
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold", metavar="P", help="UNSAFE from this p(unsafe) on; default: the mode's.", show_default=False
    ),
]
