"""The commands by name, and the group that imports one when it is called: all of them take longer than a verdict."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_JUDGE, _SERVE, _TRAIN, _MEASURE = "Judge", "Serve", "Train", "Measure"


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the function or the group of commands `attribute` of a module here, and its line in `guard --help`."""

    panel: str
    summary: str
    module: str
    attribute: str = "app"

    def load(self, name: str) -> Any:
        found = getattr(importlib.import_module(f"guard.cli.{self.module}"), self.attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        return typer.main.get_command(alone)


COMMANDS: Mapping[str, Entry] = {
    "check": Entry(_JUDGE, "Judge a text, or every row of a file.", "check", "check"),
    "filter": Entry(_JUDGE, "Keep the safe rows of data sets, and account for the others.", "filter", "filter_rows"),
    "audit": Entry(_JUDGE, "Estimate precision and recall of a filter from a labelled sample.", "audit"),
    "policy": Entry(_JUDGE, "List, show, write, validate, compare and map policies.", "policy"),
    "demo": Entry(_JUDGE, "See a verdict, your own policy and the service, in a minute.", "demo", "demo"),
    "serve": Entry(_SERVE, "Serve verdicts and rewards over gRPC and HTTP.", "serve", "serve"),
    "proxy": Entry(_SERVE, "Moderate an OpenAI-compatible chat server.", "proxy", "proxy"),
    "admin": Entry(_SERVE, "Administer a running server.", "admin"),
    "keys": Entry(_SERVE, "Make API keys of the service.", "keys"),
    "data": Entry(_TRAIN, "Build, inspect and convert labelled data.", "data"),
    "train": Entry(_TRAIN, "Train a guard, or copy a recipe or config to make it your own.", "train", "train"),
    "export": Entry(_TRAIN, "Make a bundle of a finished run.", "export", "export"),
    "cascade": Entry(_TRAIN, "Make one bundle of a cheap guard and a dear one.", "cascade", "cascade"),
    "reward": Entry(_TRAIN, "Train and evaluate reward models, and score answers.", "reward"),
    "fetch": Entry(_TRAIN, "Get a guard by its name, from a release or a folder.", "guards", "fetch"),
    "eval": Entry(_MEASURE, "Evaluate a guard on labelled sets, or a recipe on sources held out.", "evaluation"),
    "redteam": Entry(_MEASURE, "Attack a guard, and see which attacks it misses.", "redteam", "redteam"),
    "bench": Entry(_MEASURE, "Measure the speed and memory of a guard on this machine.", "bench", "bench"),
    "doctor": Entry(_MEASURE, "Check the installation, or a model.", "doctor", "doctor"),
}


class Commands(TyperGroup):
    """Lists the commands by their summaries, and imports the one that is called, or whose options are completed."""

    def __init__(self, *, commands: Any = None, **settings: Any) -> None:
        listed = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }
        super().__init__(commands={**listed, **(commands or {})}, **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            _take_any_value(self)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        if name is not None and name in COMMANDS:
            found = COMMANDS[name].load(name)
            if ctx.resilient_parsing:
                _take_any_value(found)
        return name, found, rest


def _take_any_value(command: Any) -> None:
    """Has the values of a command line taken as they are, while it is being completed: their check imports pydantic,
    which takes as long as all else."""
    parameters = command.get_params

    def unchecked(ctx: Any) -> Any:
        found = parameters(ctx)
        for each in found:
            each.process_value = lambda _, value: value
        return found

    command.get_params = unchecked
    for each in getattr(command, "commands", {}).values():
        _take_any_value(each)
