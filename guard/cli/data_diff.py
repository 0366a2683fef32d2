"""`guard data diff`: the differences between two built data sets."""

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
_MAX_TOTALS = 12  # lines of a table of totals
_TOTALS = ("split", "label", "kind", "language", "categories", "licence")


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="The folder of a build.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="The folder of another build.", show_default=False)],
    show_ids: Annotated[int, typer.Option(min=0, metavar="N", help="Show the ids of up to N rows per group.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all differences as one JSON object.")] = False,
) -> None:
    """Compare two builds: settings, sources, and rows by id. Exit code 0 if they are equal, else 1.

    Rows of one build only are listed with the reason why the other lacks them. Rows that moved between train and a
    held-out split are a warning: a model trained on one build has seen rows that the other one tests on.

    Example: guard data diff data/old data/new
    """
    from guard.data.dataset.diff import as_dict
    from guard.data.dataset.diff import diff as compare
    from guard.data.dataset.open import open_dataset

    datasets = open_dataset(a), open_dataset(b)
    differences = compare(*datasets, show_ids)
    if as_json:
        typer.echo(json.dumps(as_dict(differences), indent=1, ensure_ascii=False))
    else:
        _print(datasets, differences)
    if not differences.equal:
        raise typer.Exit(DIFFERENT)


def _print(datasets: tuple[Dataset, Dataset], diff: Diff) -> None:
    for name, dataset, rows in zip("AB", datasets, diff.rows, strict=True):
        policy = dataset.manifest.policy
        summary = f"{rows:,} rows, data {dataset.manifest.data_digest[:12]}, {policy.id} {policy.version}"
        typer.echo(f"{name} {dataset.folder}: {summary}")
    if diff.equal:
        typer.echo("equal")
        return
    only_a, only_b = (rows - diff.both for rows in diff.rows)
    typer.echo(f"{diff.both:,} rows in both, {only_a:,} only in A, {only_b:,} only in B")
    show(*_tables(diff))
    if diff.weights.rows:
        factor = f", all of them by the factor {diff.weights.factor:.4g}" if diff.weights.factor else ""
        typer.echo(f"weights: changed for {diff.weights.rows:,} of the rows in both{factor}")
    if diff.files and not (diff.removed or diff.added or diff.changed or diff.weights.rows):
        typer.echo(f"same rows, different bytes: {', '.join(diff.files)}")
    for group, ids in diff.ids.items():
        typer.echo(f"{group}: {' '.join(ids)}")
    for move in diff.moves:
        if move.leaks:
            moved = (
                f"{move.clusters:,} clusters ({move.rows:,} rows) moved from {move.before} in A to {move.after} in B"
            )
            pair = "A on B" if move.before == "train" else "B on A"
            typer.echo(f"warning: {moved}: do not test a model of {pair}", err=True)


def _tables(diff: Diff) -> Iterator[Table]:
    settings = {**{f"policy {key}": pair for key, pair in diff.policy.items()}, **diff.settings}
    if settings:
        values = ((key, _value(old), _value(new)) for key, (old, new) in settings.items())
        yield table("setting", "A", "B", rows=values)
    if diff.sources:
        by_difference: dict[str, list[str]] = {}
        for name, differences in diff.sources.items():
            by_difference.setdefault("; ".join(differences), []).append(name)
        grouped = [(differences, ", ".join(names)) for differences, names in by_difference.items()]
        yield table("difference", "sources", rows=grouped)
    for title, counts in (("only in A", diff.removed), ("only in B", diff.added)):
        if counts:
            lines = ((source, reason, f"{rows:,}") for (source, reason), rows in sorted(counts.items()))
            yield table(title, "reason", "rows", rows=lines)
    for field, changes in diff.changed.items():
        most = sorted(changes.items(), key=lambda item: (-item[1], item[0]))
        yield table(f"{field} in A", "in B", "rows", rows=[(old, new, f"{rows:,}") for (old, new), rows in most])
    for field in _TOTALS:
        if totals := diff.totals.get(field):
            largest = sorted(totals.items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:_MAX_TOTALS]
            compared = ((value, f"{old:,}", f"{new:,}", f"{new - old:+,}") for value, (old, new) in largest)
            yield table(field, "rows in A", "rows in B", "difference", rows=compared)


def _value(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
