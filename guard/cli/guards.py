"""`guard fetch`: get a guard by its name, to be used as `--model NAME`."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    name: Annotated[str, typer.Argument(help="What to call the guard: `guard check --model NAME`.")],
    source: Annotated[
        str, typer.Option("--from", metavar="URL_OR_FOLDER", help="Where guard.json and the files that it lists are.")
    ],
    digest: Annotated[
        str | None,
        typer.Option(help="The model's digest, as its release publishes it; without it, the source is trusted."),
    ] = None,
) -> None:
    """Get a guard from a release or a folder. It counts once every file matches its digest.

    Example: guard fetch multi --from https://HOST/FOLDER
    """
    from guard.bundle import open_bundle
    from guard.fetch import fetch as get

    folder = get(name, source, digest)
    typer.echo(f"{folder}: guard {open_bundle(folder).manifest.model[:12]}; next: guard check --model {name} TEXT")
