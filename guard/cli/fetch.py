"""`guard data fetch`: download the raw data from its public repositories."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.report import tables

if TYPE_CHECKING:
    from guard.data.sources.fetch.fetching import Status

_INCOMPLETE = 2
_THERE = ("present", "fetched")


def fetch(
    root: Annotated[Path, typer.Option("--root", file_okay=False, help="The data root; created if missing.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sources or raw folders; default: all.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A mirror with URL/OWNER/REPOSITORY/COMMIT/PATH; default: GitHub."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Concurrent connections.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list files, URLs and states.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array with an object per file.")] = False,
    taxonomy: Annotated[
        Path | None, typer.Option(file_okay=False, exists=True, help="A folder with your own downloads/ and sources/.")
    ] = None,
) -> None:
    """Download the raw files of data sources and verify every one against its described digest.

    Files that are present and correct are kept, so a stopped run resumes. Each data set keeps its own licence. Exit
    code 0 if every file is present and correct, else 2.

    Example: guard data fetch beavertails --root data
    """
    from guard.data.sources.fetch import downloads, fetching
    from guard.data.sources.fetch.transfer import hosts_at
    from guard.report.progress import progress_bar

    hosts = hosts_at(base_url)
    files = fetching.check(downloads.select(names or [], taxonomy), root, hosts)
    if not dry_run:
        missing = sum(file.selected.file.size for file in files if file.state != "present")
        with progress_bar("fetching", missing, "bytes") as bar:
            files = fetching.fetch_missing(
                files, root, hosts, jobs, progress=lambda path, size: bar.advance(size, path)
            )
    if as_json:
        typer.echo(json.dumps([_plain(file) for file in files], indent=1))
    elif dry_run:
        _show_files(files)
    else:
        _show_folders(files)
        cautions = {file.selected.folder: file.selected.caution for file in files if file.state == "fetched"}
        for folder, caution in cautions.items():
            if caution:
                typer.echo(f"{folder}: {caution}")
    for file in files:
        if file.error:
            typer.echo(file.error, err=True)
    if not as_json:
        typer.echo(fetching.FINGERPRINTS)
    if any(file.state not in _THERE for file in files):
        raise typer.Exit(_INCOMPLETE)


def _plain(status: Status) -> dict[str, Any]:
    problem = {} if status.error is None else {"problem": status.error}
    file = status.selected.file
    return {
        "file": status.selected.path,
        "size": file.size,
        "sha256": file.sha256,
        "licence": status.selected.licence,
        "address": status.url,
        "state": status.state,
        **problem,
    }


def _show_files(files: Sequence[Status]) -> None:
    _show(
        ("file", "size", "state", "address"),
        [(file.selected.path, file.selected.file.size, file.state, file.url) for file in files],
    )
    states = Counter(file.state for file in files)
    typer.echo(", ".join(f"{states[state]:,} {state}" for state in sorted(states)))


def _show_folders(files: Sequence[Status]) -> None:
    licences = {file.selected.folder: file.selected.licence for file in files}
    rows = [
        (folder, *_counts([file for file in files if file.selected.folder == folder]), licence)
        for folder, licence in licences.items()
    ]
    _show(("folder", "files", "already there", "fetched", "failed", "licence"), [*rows, ("all", *_counts(files), "")])


def _counts(files: Sequence[Status]) -> tuple[int, int, int, int]:
    states = Counter(file.state for file in files)
    return len(files), states["present"], states["fetched"], states["failed"]


def _show(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    tables.show(tables.table(*columns, rows=rows))
