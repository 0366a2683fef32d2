"""`guard eval`: a guard on labelled sets (where no command is named), a recipe by transfer, or a prompted base."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from guard.cli import evaluate, prompted, transfer

DEFAULT = "sets"


class _SetsByDefault(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`guard eval xstest` stands for `guard eval sets xstest`."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_SetsByDefault, no_args_is_help=True)
app.command(DEFAULT)(evaluate.evaluate)
app.command("transfer")(transfer.transfer)
app.command("prompted")(prompted.prompted)
