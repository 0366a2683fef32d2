"""`guard doctor`: diagnose this installation or a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from guard.cli.options import PolicyOption


def doctor(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A bundle, or a base or released guard: folder, .gguf file, hub name; default: the shipped guard."
        ),
    ] = None,
    policy: PolicyOption = None,
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="Load the weights and score sample texts.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Check the installation and a model: template, tokens, roles, label mass. Exit code 1 if a check failed.

    Example: guard doctor bundles/mine
    """
    from guard.doctor import examine, failed
    from guard.report.tables import show, table

    checks = list(examine(model, policy, weights))
    if as_json:
        plain = {"model": None if model is None else str(model), "failed": failed(checks)}
        typer.echo(json.dumps({**plain, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        show(table("check", "status", "detail", rows=((each.name, each.status, each.detail) for each in checks)))
        for each in checks:
            if each.advice:
                typer.echo(f"{each.status} {each.name}: {each.advice}")
    raise typer.Exit(1 if failed(checks) else 0)
