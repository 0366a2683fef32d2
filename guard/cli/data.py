"""`guard data`: build labelled data sets, and list and check their sources."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from guard.cli import audit, data_card, data_diff, data_inspect
from guard.cli import convert as conversion
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
app.command("from-filter")(audit.from_filter)
_MISMATCH = 2

Root = Annotated[Path, typer.Option("--root", help="The folder of `raw/` and the fingerprints.")]
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
        typer.Option("--root", help="The folder of `raw/` and the fingerprints; not needed for your own files alone."),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="A file of held-out rows to exclude; repeatable.")
    ] = None,
    allow_count_mismatch: Annotated[
        bool, typer.Option("--allow-count-mismatch", help="Build even if row counts differ from a description.")
    ] = False,
    allow_noncommercial: Annotated[
        bool, typer.Option("--allow-noncommercial", help="Use sources whose licence forbids commercial use.")
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes; default: one per core.")] = None,
    report: Annotated[bool, typer.Option(help="Write the confound report and the data card as well.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest instead of a table.")] = False,
) -> None:
    """Build a data set: load, map, clean, deduplicate, decontaminate, mix, split. A killed build resumes.

    Example: guard data build training/configs/data-default.yaml --root data --out data/default
    """
    from guard.data.build.build import build as build_data
    from guard.data.dataset.reports import write_reports
    from guard.errors import need
    from guard.report.progress import progress_bar

    need("datasets", "data").disable_progress_bars()
    with _ended_in_order(), progress_bar("sources") as bar:
        manifest = build_data(
            config,
            root,
            out,
            against or (),
            allow_count_mismatch,
            allow_noncommercial,
            jobs or os.cpu_count() or 1,
            write_reports if report else None,
            lambda name, total: bar.advance(1, name, total),
        )
    if as_json:
        typer.echo(json.dumps(manifest, indent=1, ensure_ascii=False))
        return
    _show_build(manifest)
    more = f"; see {out / 'card.html'}" if report else ""
    typer.echo(f"wrote {out} (data digest {manifest['data_digest'][:12]}){more}")


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM unwinds the block, so that the processes of the build and its unfinished files go before its lock."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_build(manifest: dict[str, Any]) -> None:
    splits = manifest["splits"]
    totals = {"name": "all", **manifest["rows"], "splits": {name: split["rows"] for name, split in splits.items()}}
    table = tables.table("source", "read", "kept", *splits, "dropped")
    for entry in [*manifest["sources"], totals]:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in entry["dropped"].items())
        rows = (entry["splits"].get(name, 0) for name in splits)
        tables.add(table, entry["name"], entry["read"], entry["kept"], *rows, dropped)
    tables.show(table)
    for warning in manifest["warnings"]:
        typer.echo(f"warning: {warning}", err=True)


@app.command("check")
def check(
    root: Root,
    names: Annotated[list[str] | None, typer.Argument(help="Sources to check; default: all.")] = None,
    taxonomy: Taxonomy = None,
    fingerprints: Annotated[str, typer.Option(help="The folder of fingerprints under the root.")] = "fingerprints",
) -> None:
    """Load sources and compare their row counts with their descriptions. Exit code 2 if any count differs.

    Example: guard data check beavertails --root data
    """
    from guard.data.ingest import decontaminate, ingest
    from guard.data.sources import description
    from guard.errors import ConfigError

    held_out = decontaminate.load(root / fingerprints)
    table = tables.table("source", "expected before", "read", "expected after", "kept", "held out", "")
    mismatches: list[str] = []
    for name in names or description.names(taxonomy):
        source = description.load(name, taxonomy)
        if source.expected is None:
            if names:
                raise ConfigError(f"source {name} states no expected counts")
            continue
        counts = ingest.count_rows(source, root, description.load_crosswalk(source, taxonomy), held_out)
        before, after = ingest.label_counts(counts.before), ingest.label_counts(counts.after)
        differing = ingest.count_mismatches(source, before, after)
        mismatches += differing
        totals = (source.expected.before.total, before["total"], source.expected.after.total, after["total"])
        tables.add(table, name, *totals, before["total"] - after["total"], "differs" if differing else "ok")
    tables.show(table)
    for mismatch in mismatches:
        typer.echo(mismatch, err=True)
    if mismatches:
        raise typer.Exit(_MISMATCH)


@app.command("list")
def list_sources(
    taxonomy: Taxonomy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the descriptions as one JSON array.")] = False,
) -> None:
    """List the described sources with their licence, role and row counts after decontamination.

    Example: guard data list
    """
    from guard.data.sources import description

    sources = [description.load(name, taxonomy) for name in description.names(taxonomy)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(source) for source in sources], indent=2, ensure_ascii=False))
        return
    table = tables.table("name", "kind", "role", "licence", "safe", "unsafe", "unlabelled", "title")
    for source in sources:
        after = source.expected.after if source.expected else None
        counts = ("", "", "") if after is None else (after.safe, after.unsafe, after.unlabelled)
        tables.add(table, source.name, source.kind, source.role, source.licence, *counts, source.title)
    tables.show(table)
