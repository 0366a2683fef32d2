"""`guard data`: build labelled data sets, check the sources they are made from, list them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from guard.cli import convert as conversion
from guard.cli import data_card, data_diff, data_inspect
from guard.cli.confounds import confounds
from guard.cli.fetch import fetch
from guard.cli.judge import judge
from guard.report import tables

app = typer.Typer(no_args_is_help=True)
app.command("fetch")(fetch)
app.command("confounds")(confounds)
app.command("judge")(judge)
app.command("convert")(conversion.convert)
app.command("card")(data_card.card)
app.command("inspect")(data_inspect.inspect)
app.command("diff")(data_diff.diff)
_USAGE = 2

Root = Annotated[Path, typer.Option("--root", help="The folder that holds `raw/` and the fingerprints.")]
Taxonomy = Annotated[
    Path | None,
    typer.Option("--taxonomy", file_okay=False, exists=True, help="A folder with your own sources/ and crosswalks/."),
]


@app.command("build")
def build(
    config: Annotated[Path, typer.Argument(help="A build configuration, such as training/configs/data-default.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; an earlier build in it is replaced.")],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="The folder that holds `raw/` and the fingerprints; not needed for files of your own alone."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="A file of held-out rows that no row may repeat; repeatable.")
    ] = None,
    allow_count_mismatch: Annotated[
        bool, typer.Option("--allow-count-mismatch", help="Build although a source gives other counts than described.")
    ] = False,
    allow_noncommercial: Annotated[
        bool, typer.Option("--allow-noncommercial", help="Use sources whose licence forbids commercial use.")
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes; one a core if not given.")] = None,
    report: Annotated[bool, typer.Option(help="Write the confound report and the data card, too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The whole manifest instead of the table.")] = False,
) -> None:
    """Build a data set: read, map, clean, deduplicate, decontaminate, mix, split. A killed build goes on."""
    from guard.data.build.build import build as build_data
    from guard.data.dataset.reports import write_reports
    from guard.errors import need

    need("datasets", "data").disable_progress_bars()
    with _progress() as progress:
        manifest = build_data(
            config,
            root,
            out,
            against or (),
            allow_count_mismatch,
            allow_noncommercial,
            jobs or os.cpu_count() or 1,
            write_reports if report else None,
            progress,
        )
    if as_json:
        typer.echo(json.dumps(manifest, indent=1, ensure_ascii=False))
        return
    _show_build(manifest)
    more = f"; read {out / 'card.html'}" if report else ""
    typer.echo(f"wrote {out} (data digest {manifest['data_digest'][:12]}){more}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Tells, on a terminal, how many sources are taken in."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("sources")
        yield lambda name, total: bar.update(task, advance=1, total=total, description=name)


def _show_build(manifest: dict[str, Any]) -> None:
    splits = manifest["splits"]
    totals = {"name": "all", **manifest["rows"], "splits": {name: split["rows"] for name, split in splits.items()}}
    made = tables.table("source", "read", "kept", *splits, "dropped")
    for part in [*manifest["sources"], totals]:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in part["dropped"].items())
        tables.add(
            made, part["name"], part["read"], part["kept"], *(part["splits"].get(name, 0) for name in splits), dropped
        )
    tables.show(made)
    for warning in manifest["warnings"]:
        typer.echo(f"warning: {warning}", err=True)


@app.command("check")
def check(
    root: Root,
    names: Annotated[list[str] | None, typer.Argument(help="Sources to check; all if none is given.")] = None,
    taxonomy: Taxonomy = None,
    fingerprints: Annotated[str, typer.Option(help="The folder of fingerprints under the root.")] = "fingerprints",
) -> None:
    """Read sources and compare their rows with their descriptions. Exit code 2 if any count differs."""
    from guard.data.ingest import decontaminate, ingest
    from guard.data.sources import description
    from guard.errors import ConfigError

    held_out = decontaminate.load(root / fingerprints)
    made = tables.table("source", "expected before", "read", "expected after", "kept", "flagged", "")
    mismatches: list[str] = []
    for name in names or description.names(taxonomy):
        source = description.load(name, taxonomy)
        if source.expected is None:
            if names:
                raise ConfigError(f"source {name} states no counts to compare with")
            continue
        counts = ingest.count_rows(source, root, description.load_crosswalk(source, taxonomy), held_out)
        before, after = ingest.label_counts(counts.before), ingest.label_counts(counts.after)
        differing = ingest.count_mismatches(source, before, after)
        mismatches += differing
        totals = (source.expected.before.total, before["total"], source.expected.after.total, after["total"])
        tables.add(made, name, *totals, before["total"] - after["total"], "differs" if differing else "ok")
    tables.show(made)
    for mismatch in mismatches:
        typer.echo(mismatch, err=True)
    if mismatches:
        raise typer.Exit(_USAGE)


@app.command("list")
def list_sources(
    taxonomy: Taxonomy = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of the whole descriptions.")] = False,
) -> None:
    """The described sources with their licence, role and rows after decontamination."""
    from guard.data.sources import description

    found = [description.load(name, taxonomy) for name in description.names(taxonomy)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(source) for source in found], indent=2, ensure_ascii=False))
        return
    made = tables.table("name", "kind", "role", "licence", "safe", "unsafe", "unlabelled", "title")
    for source in found:
        after = source.expected.after if source.expected else None
        counts = ("", "", "") if after is None else (after.safe, after.unsafe, after.unlabelled)
        tables.add(made, source.name, source.kind, source.role, source.licence, *counts, source.title)
    tables.show(made)
