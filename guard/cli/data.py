"""`guard data`: build labelled data sets, check the sources they are made from, list them."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True)
_USAGE = 2
_WIDE = 200  # columns

Root = Annotated[Path, typer.Option("--root", help="The folder that holds `raw/` and the fingerprints.")]
Taxonomy = Annotated[
    Path | None,
    typer.Option("--taxonomy", file_okay=False, exists=True, help="A folder with your own sources/ and crosswalks/."),
]


@app.command("build")
def build(
    config: Annotated[Path, typer.Argument(help="A build configuration, such as training/configs/data-default.yaml.")],
    root: Root,
    out: Annotated[Path, typer.Option("--out", help="The folder to write; an earlier build in it is replaced.")],
    allow_count_mismatch: Annotated[
        bool, typer.Option("--allow-count-mismatch", help="Build although a source gives other counts than described.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole manifest instead of the table.")] = False,
) -> None:
    """Build a data set: read, map, clean, deduplicate, decontaminate, split."""
    from guard.data.build import build as build_data
    from guard.errors import need

    need("datasets", "data").disable_progress_bars()
    manifest = build_data(config, root, out, allow_count_mismatch)
    if as_json:
        typer.echo(json.dumps(manifest, indent=1, ensure_ascii=False))
        return
    _show_build(manifest)
    typer.echo(f"wrote {out} (data digest {manifest['data_digest'][:12]})")


def _show_build(manifest: dict[str, Any]) -> None:
    splits = manifest["splits"]
    totals = {"name": "all", **manifest["rows"], "splits": {name: split["rows"] for name, split in splits.items()}}
    table = _table("source", "read", "kept", *splits, "dropped")
    for part in [*manifest["sources"], totals]:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in part["dropped"].items())
        _add(
            table, part["name"], part["read"], part["kept"], *(part["splits"].get(name, 0) for name in splits), dropped
        )
    _print(table)
    for mismatch in manifest["count_mismatches"]:
        typer.echo(f"warning: {mismatch}", err=True)


@app.command("check")
def check(
    root: Root,
    names: Annotated[list[str] | None, typer.Argument(help="Sources to check; all if none is given.")] = None,
    taxonomy: Taxonomy = None,
    fingerprints: Annotated[str, typer.Option(help="The folder of fingerprints under the root.")] = "fingerprints",
) -> None:
    """Read sources and compare their rows with their descriptions. Exit code 2 if any count differs."""
    from guard.data import decontaminate, intake, sources

    held_out = decontaminate.load(root / fingerprints)
    table = _table("source", "expected before", "read", "expected after", "kept", "flagged", "")
    wrong: list[str] = []
    for name in names or sources.names(taxonomy):
        source = sources.load(name, taxonomy)
        taken = intake.take(source, root, sources.load_crosswalk(source, taxonomy), held_out)
        found = intake.mismatches(taken)
        wrong += found
        expected = source.expected
        flagged = taken.before["total"] - taken.after["total"]
        counts = (expected.before.total, taken.before["total"], expected.after.total, taken.after["total"], flagged)
        _add(table, name, *counts, "differs" if found else "ok")
    _print(table)
    for mismatch in wrong:
        typer.echo(mismatch, err=True)
    if wrong:
        raise typer.Exit(_USAGE)


@app.command("list")
def list_sources(
    taxonomy: Taxonomy = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of the whole descriptions.")] = False,
) -> None:
    """The described sources with their licence, role and rows after decontamination."""
    from guard.data import sources

    found = [sources.load(name, taxonomy) for name in sources.names(taxonomy)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(source) for source in found], indent=2, ensure_ascii=False))
        return
    table = _table("name", "kind", "role", "licence", "safe", "unsafe", "unlabelled", "title")
    for source in found:
        after = source.expected.after
        counts = (after.safe, after.unsafe, after.unlabelled)
        _add(table, source.name, source.kind, source.role, source.licence, *counts, source.title)
    _print(table)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def _add(table: Table, *cells: str | int) -> None:
    from rich.text import Text  # not plain strings, which rich would read as markup

    table.add_row(*(Text(f"{cell:,}", justify="right") if isinstance(cell, int) else Text(cell) for cell in cells))


def _print(table: Table) -> None:
    from rich.console import Console

    # A file or a pipe has no width to fold the last column to.
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
