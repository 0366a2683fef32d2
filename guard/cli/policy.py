"""`guard policy`: list, show, write, validate, compare and map policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guard.cli import names, policy_diff, policy_map

if TYPE_CHECKING:
    from guard.policy import Policy

app = typer.Typer(no_args_is_help=True)
app.command("diff")(policy_diff.diff)
app.command("map")(policy_map.map_policy)
_USAGE = 2


@app.command("list")
def list_policies(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, with full digests.")] = False,
) -> None:
    """List the shipped policies, by the names that --policy takes.

    Example: guard policy list
    """
    from guard import policy
    from guard.report.tables import show, table

    rows = []
    for name in policy.shipped():
        loaded = policy.load(name)
        count = len(loaded.categories)
        rows.append(
            {"name": name, "id": loaded.id, "version": loaded.version, "categories": count, "digest": loaded.digest}
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    short = [(*tuple(row.values())[:-1], str(row["digest"])[:12]) for row in rows]
    show(table("name", "id", "version", "categories", "digest", rows=short))


@app.command("show")
def show_policy(
    policy: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="A shipped policy or a policy file.", autocompletion=names.policies),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print all fields and the digest as JSON.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a policy file to edit.")] = False,
) -> None:
    """Show a policy: its categories and its digest.

    Example: guard policy show mlcommons --yaml
    """
    from guard.policy import dump, load

    if as_json and as_yaml:
        raise typer.BadParameter("give one of --json and --yaml")
    loaded = load(policy)
    if as_json:
        typer.echo(json.dumps(_as_json(loaded), indent=2, ensure_ascii=False))
    elif as_yaml:
        typer.echo(dump(loaded), nl=False)
    else:
        _show(loaded)


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
        (each.code, each.name, each.definition, "" if each.threshold is None else f"{each.threshold:g}")
        for each in policy.categories
    )
    show(table("code", "name", "definition", "threshold", rows=rows))


@app.command("new")
def new(file: Annotated[Path, typer.Argument(help="The file to create, .yaml or .yml.")]) -> None:
    """Write a small commented policy for you to edit.

    Example: guard policy new my.yaml
    """
    from guard.assets import asset
    from guard.errors import PolicyError

    if file.suffix not in (".yaml", ".yml"):
        raise PolicyError(f"{file}: a policy file must end in .yaml or .yml")
    if not file.absolute().parent.is_dir():
        raise PolicyError(f"{file}: there is no folder {file.absolute().parent}; create it first")
    template = asset("taxonomy/policies/minimal.yaml").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(template)
    except FileExistsError:
        raise PolicyError(f"{file}: already exists; choose another name") from None
    except OSError as problem:
        raise PolicyError(f"{file}: cannot be written: {problem.strerror}") from None
    typer.echo(f"wrote {file}; edit it, then run: guard policy validate {file}")
    typer.echo(f"use it: guard check --policy {file} TEXT")


@app.command("validate")
def validate(files: Annotated[list[Path], typer.Argument(help="Policy files.")]) -> None:
    """Check policy files: prints `ok` with the digest, or every error with its line. Exit code 2 if there are any.

    Example: guard policy validate my.yaml
    """
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
    """Print the JSON Schema of policy files, for editors.

    Example: guard policy schema > policy.schema.json
    """
    from guard.policy import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
