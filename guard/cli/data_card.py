"""`guard data card`: the page that says what a built data set holds, written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder made by `guard data build`.")],
) -> None:
    """Write card.html into the folder of a build: one page to read offline, with plots, without the text of any row."""
    from guard.data.dataset.card.card import write_card

    typer.echo(f"wrote {write_card(folder)}")
