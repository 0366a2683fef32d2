"""`guard data inspect`: a sample of the rows of a built data set. Texts stay hidden unless requested."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guard.report.tables import add, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from guard.data.dataset.samples import Dropped, Sample

_CHARACTERS = 600


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|FILE", help="A folder made by `guard data build`, or one of its Parquet files."),
    ],
    split: Annotated[
        str | None, typer.Option(help="train, dev, test, development, or a file of pairs such as pairs-train.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only rows of this source.")] = None,
    label: Annotated[str | None, typer.Option(help="safe or unsafe.")] = None,
    category: Annotated[str | None, typer.Option(help="Only rows that violate this category, like S2.")] = None,
    kind: Annotated[str | None, typer.Option(help="prompt, response, text or pair.")] = None,
    language: Annotated[str | None, typer.Option(help="Only rows in this language, like en.")] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Rows that the build left out, and why.")] = False,
    reason: Annotated[str | None, typer.Option(help="Rows left out for this reason; implies --dropped.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="The row of this id, kept or dropped.")] = None,
    count: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the texts too; many are hateful, sexual or violent.")
    ] = False,
    characters: Annotated[int, typer.Option(min=1, help="Characters shown of each turn.")] = _CHARACTERS,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per row; with --show-text, whole texts.")
    ] = False,
) -> None:
    """Show a reproducible sample of the rows. Exit code 2 if no row has the given id.

    Example: guard data inspect data/default --split dev --category S2
    """
    from guard.data.dataset import samples
    from guard.errors import InvalidInput

    criteria = samples.Filter(split, source, label, category, kind, language, reason, id)
    paths = samples.files(path)
    only_drops = dropped or reason is not None or list(paths) == ["drops"]
    if only_drops and (values := criteria.values("split", "label", "category", "kind", "language")):
        raise InvalidInput(
            f"{', '.join(f'--{name}' for name in values)}: unknown for dropped rows; use --source, --reason or --id"
        )
    kept = [] if only_drops else samples.sample(paths, criteria, count, seed)
    drops = samples.sample_drops(paths, criteria, count, seed) if only_drops or (id and "drops" in paths) else []
    if id is not None and not kept and not drops:
        raise InvalidInput(f"{path}: no row has the id {id!r}; ids are 16 hex digits, see `guard data inspect`")
    if as_json:
        _echo_json(kept, drops, show_text)
        return
    if not kept and not drops:
        typer.echo("no row matches", err=True)
    if kept:
        show(_kept_table(kept))
    if drops:
        show(_dropped_table(drops))
    for row in kept if show_text else ():
        _echo_text(row, characters)


def _echo_json(kept: Sequence[Sample], drops: Sequence[Dropped], show_text: bool) -> None:
    for row in kept:
        plain = dataclasses.asdict(row)
        messages = plain.pop("messages")
        if show_text:
            plain["messages"] = [{"role": role, "content": content} for role, content in messages]
        typer.echo(json.dumps(plain))  # ASCII: no text can send control sequences to the terminal
    for drop in drops:
        typer.echo(json.dumps(dataclasses.asdict(drop)))


def _kept_table(rows: Sequence[Sample]) -> Table:
    result = table(
        "id", "split", "source", "label", "categories", "language", "kind", "characters", "cluster rows", "weight"
    )
    for row in rows:
        codes = ", ".join([*row.categories, *(f"{code}?" for code in row.undecided)])
        size = (f"{row.characters:,}", f"{row.cluster_rows:,}", f"{row.weight:.4g}")
        add(result, row.id, row.split, row.source, row.label, codes, row.language, row.kind, *size)
    return result


def _dropped_table(rows: Sequence[Dropped]) -> Table:
    lines = ((row.id, row.source, row.reason, row.detail, row.place) for row in rows)
    return table("id", "source", "dropped for", "detail", "read from", rows=lines)


def _echo_text(row: Sample, characters: int) -> None:
    from guard.report.printable import printable

    typer.echo(f"{row.id}  {row.source}  {row.label}")
    for role, content in row.messages:
        typer.echo(f"  {printable(role, 40)}:")
        for line in printable(content, characters).split("\n"):
            typer.echo(f"    | {line}")  # the bar marks the lines of the text
    typer.echo()
