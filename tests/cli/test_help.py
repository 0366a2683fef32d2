"""`--help` of every command: a line that says what it does, and an example that the command takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from guard.cli import app
from guard.cli.commands import COMMANDS

SUMMARY = 80  # characters of a line in `guard --help`
FIRST = 115  # of the first paragraph of a command's help


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from leaves(each, (*path, name))
    else:
        yield path, command


ALL = {path: command for name, entry in COMMANDS.items() for path, command in leaves(entry.load(name), (name,))}


def parsed(words: list[str]) -> tuple[str, ...]:
    """The command that a line calls, once its options and arguments are read; raises as a call would."""
    command: Any = typer.main.get_command(app)
    context, path = command.make_context("guard", words), []
    while isinstance(command, TyperGroup):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
        path.append(name)
    return tuple(path)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_says_what_it_does_and_how_it_is_called(path: tuple[str, ...]) -> None:
    first, *others = ALL[path].help.split("\n\n")
    assert len(" ".join(first.split())) <= FIRST
    (example,) = [each for each in others if each.startswith("Example: ")]
    guard, *words = shlex.split(example.removeprefix("Example: "))
    assert guard == "guard"
    called = parsed(words[: words.index(">")] if ">" in words else words)
    assert called == (("train",) if path == ("reward", "train") else path)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_and_argument_is_explained(path: tuple[str, ...]) -> None:
    silent = [each.name for each in ALL[path].params if not each.help]
    assert silent == []


def test_the_list_of_commands_has_short_lines() -> None:
    assert all(len(entry.summary) <= SUMMARY and entry.summary.endswith(".") for entry in COMMANDS.values())
