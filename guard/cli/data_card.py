"""`guard data card`: write the data card of a built data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder made by `guard data build`.")],
) -> None:
    """Write card.html into the folder of a build: one self-contained page with plots, without texts of rows.

    Example: guard data card data/default
    """
    from guard.data.dataset.card.card import write_card

    typer.echo(f"wrote {write_card(folder)}")
