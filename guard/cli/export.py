"""`guard export`: from a finished run to a sealed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guard.errors import need


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished `guard train`.")],
    out: Annotated[Path, typer.Argument(help="The bundle to make; must not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the dev split to calibrate on; default: the run's own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's.")] = None,
) -> None:
    """Make a bundle: ONNX, calibration, digests; the parity of torch and ONNX is measured, printed and stored."""
    need("torch", "train")
    from guard.train.export import export as make

    parity = make(run, out, name, data)
    for key, value in parity.items():
        typer.echo(f"parity {key}: {value:.3g}")
    typer.echo(f"{out}: sealed; next: guard check --model {out} TEXT")
