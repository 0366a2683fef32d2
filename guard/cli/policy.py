"""`guard policy`: list, show, write, validate, compare and map policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guard.cli import policy_diff, policy_map

if TYPE_CHECKING:
    from guard.policy import Policy

app = typer.Typer(no_args_is_help=True)
app.command("diff")(policy_diff.diff)
app.command("map")(policy_map.map_policy)
_USAGE = 2


@app.command("list")
def list_policies(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, digests in full.")] = False,
) -> None:
    """The policies that ship with guard, under the names that --policy takes."""
    from guard import policy
    from guard.report.tables import show, table

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
    short = [(*tuple(row.values())[:-1], str(row["digest"])[:12]) for row in rows]
    show(table("name", "id", "version", "categories", "digest", rows=short))


@app.command("show")
def show_policy(
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
    from guard.report.tables import show, table

    typer.echo(f"{policy.name} (id {policy.id}, version {policy.version})")
    typer.echo(f"digest {policy.digest}")
    if policy.description:
        typer.echo(policy.description)
    if policy.threshold is not None:
        typer.echo(f"unsafe from {policy.threshold:g}")
    rows = (
        (found.code, found.name, found.definition, "" if found.threshold is None else f"{found.threshold:g}")
        for found in policy.categories
    )
    show(table("code", "name", "definition", "threshold", rows=rows))


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
