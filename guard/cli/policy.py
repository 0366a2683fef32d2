"""`guard policy`: list, show, write and validate policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from guard.policy import Policy

app = typer.Typer(no_args_is_help=True)
_USAGE = 2


@app.command("list")
def list_policies(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, digests in full.")] = False,
) -> None:
    """The policies that ship with guard, under the names that --policy takes."""
    from guard import policy

    rows = []
    for name in policy.shipped():
        found = policy.load(name)
        count = len(found.categories)
        rows.append(
            {"name": name, "id": found.id, "version": found.version, "categories": count, "digest": found.digest}
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = _table("name", "id", "version", "categories", "digest")
    for row in rows:
        table.add_row(*(str(value)[:12] if key == "digest" else str(value) for key, value in row.items()))
    _print(table)


@app.command("show")
def show(
    policy: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped policy or a policy file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Every field and the digest, as JSON.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="A policy file: the start of your own.")] = False,
) -> None:
    """One policy: its categories and its digest."""
    from guard.policy import dump, load

    if as_json and as_yaml:
        raise typer.BadParameter("give one of --json and --yaml")
    found = load(policy)
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    elif as_yaml:
        typer.echo(dump(found), nl=False)
    else:
        _show(found)


def _as_json(policy: Policy) -> dict[str, object]:
    import dataclasses

    return {**dataclasses.asdict(policy), "digest": policy.digest}


def _show(policy: Policy) -> None:
    from rich.text import Text

    typer.echo(f"{policy.name} (id {policy.id}, version {policy.version})")
    typer.echo(f"digest {policy.digest}")
    if policy.description:
        typer.echo(policy.description)
    if policy.threshold is not None:
        typer.echo(f"unsafe from {policy.threshold:g}")
    table = _table("code", "name", "definition", "threshold")
    for category in policy.categories:
        threshold = "" if category.threshold is None else f"{category.threshold:g}"
        # Text, because rich would read square brackets in a policy as markup.
        table.add_row(*(Text(part) for part in (category.code, category.name, category.definition, threshold)))
    _print(table)


@app.command("new")
def new(file: Annotated[Path, typer.Argument(help="Where to write it; .yaml or .yml, and not there yet.")]) -> None:
    """Write a small commented policy for you to edit."""
    from guard.assets import asset
    from guard.errors import PolicyError

    if file.suffix not in (".yaml", ".yml"):
        raise PolicyError(f"{file}: the name of a policy file ends in .yaml or .yml")
    template = asset("taxonomy/policies/minimal.yaml").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(template)
    except FileExistsError:
        raise PolicyError(f"{file}: exists already and was left alone; choose another name") from None
    except OSError as problem:
        raise PolicyError(f"{file}: cannot be written: {problem.strerror}") from None
    typer.echo(f"wrote {file}; edit it, then run: guard policy validate {file}")
    typer.echo(f"use it: guard check --policy {file} TEXT")


@app.command("validate")
def validate(files: Annotated[list[Path], typer.Argument(help="Policy files.")]) -> None:
    """Check policy files: `ok`, the file and its digest, or every mistake with its line. Exit code 2 on a mistake."""
    from guard.errors import PolicyError
    from guard.policy import load

    broken = False
    for file in files:
        try:
            typer.echo(f"ok {file} {load(file).digest}")
        except PolicyError as mistakes:
            broken = True
            typer.echo(str(mistakes), err=True)
    if broken:
        raise typer.Exit(_USAGE)


@app.command("schema")
def schema() -> None:
    """The JSON Schema of policy files, for completion and checks in an editor."""
    from guard.policy import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
