"""`guard data diff`: what differs between two built data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.report.tables import show, table

if TYPE_CHECKING:
    from rich.table import Table

    from guard.data.dataset.diff import Diff
    from guard.data.dataset.open import Dataset

DIFFERENT = 1
_SHOWN = 12  # lines of a table of totals
_TOTALS = ("split", "label", "kind", "language", "categories", "licence")


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="The folder of a build.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one, such as a later one.", show_default=False)],
    show_ids: Annotated[int, typer.Option(min=0, metavar="N", help="Ids of up to N rows of each group.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that differs, as one object.")] = False,
) -> None:
    """Compare two builds: settings, sources, and each row by its id. Exit code 0 if they are equal, 1 if not.

    Rows of one build only are told by the reason why the other lacks them. Rows that moved between train and a held-out
    split are a warning: a model trained on one build has seen what the other one tests with.
    """
    from guard.data.dataset.diff import as_dict
    from guard.data.dataset.diff import diff as compare
    from guard.data.dataset.open import open_dataset

    builds = open_dataset(a), open_dataset(b)
    found = compare(*builds, show_ids)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=1, ensure_ascii=False))
    else:
        _tell(builds, found)
    if not found.equal:
        raise typer.Exit(DIFFERENT)


def _tell(builds: tuple[Dataset, Dataset], found: Diff) -> None:
    for name, build, rows in zip("AB", builds, found.rows, strict=True):
        policy = build.manifest.policy
        told = f"{rows:,} rows, data {build.manifest.data_digest[:12]}, {policy.id} {policy.version}"
        typer.echo(f"{name} {build.folder}: {told}")
    if found.equal:
        typer.echo("equal")
        return
    only_a, only_b = (rows - found.both for rows in found.rows)
    typer.echo(f"{found.both:,} rows in both, {only_a:,} only in A, {only_b:,} only in B")
    for made in _tables(found):
        show(made)
    if found.weights.rows:
        factor = f", all of them by the factor {found.weights.factor:.4g}" if found.weights.factor else ""
        typer.echo(f"weights: {found.weights.rows:,} of the rows in both weigh something else{factor}")
    if found.files and not (found.removed or found.added or found.changed or found.weights.rows):
        typer.echo(f"same rows, other bytes: {', '.join(found.files)}")
    for group, ids in found.ids.items():
        typer.echo(f"{group}: {' '.join(ids)}")
    for move in found.moves:
        if move.leaks:
            told = f"{move.clusters:,} clusters ({move.rows:,} rows) moved from {move.before} in A to {move.after} in B"
            pair = "A on B" if move.before == "train" else "B on A"
            typer.echo(f"warning: {told}: do not test a model of {pair}", err=True)


def _tables(found: Diff) -> Iterator[Table]:
    settings = {**{f"policy {key}": pair for key, pair in found.policy.items()}, **found.settings}
    if settings:
        told = ((key, _value(old), _value(new)) for key, (old, new) in settings.items())
        yield table("setting", "A", "B", rows=told)
    if found.sources:
        alike: dict[str, list[str]] = {}
        for name, differences in found.sources.items():
            alike.setdefault("; ".join(differences), []).append(name)
        yield table("difference", "sources", rows=[(told, ", ".join(names)) for told, names in alike.items()])
    for title, counts in (("only in A", found.removed), ("only in B", found.added)):
        if counts:
            lines = ((source, reason, f"{rows:,}") for (source, reason), rows in sorted(counts.items()))
            yield table(title, "the other lacks it because", "rows", rows=lines)
    for field, changes in found.changed.items():
        most = sorted(changes.items(), key=lambda item: (-item[1], item[0]))
        yield table(f"{field} in A", "in B", "rows", rows=[(old, new, f"{rows:,}") for (old, new), rows in most])
    for field in _TOTALS:
        if totals := found.totals.get(field):
            largest = sorted(totals.items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:_SHOWN]
            compared = ((value, f"{old:,}", f"{new:,}", f"{new - old:+,}") for value, (old, new) in largest)
            yield table(field, "rows in A", "rows in B", "difference", rows=compared)


def _value(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
