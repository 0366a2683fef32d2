"""`guard export`: make a sealed bundle from a finished run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from guard.errors import need


class Form(StrEnum):
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"
    int4 = "int4"


class Head(StrEnum):
    full = "full"
    verdict = "verdict"


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished `guard train`.")],
    out: Annotated[Path, typer.Argument(help="The bundle to write; must not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the dev split to calibrate on; default: the run's own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's.")] = None,
    form: Annotated[
        Form | None, typer.Option(help="Precision of a causal guard's weights; int8 and int4: linear layers only.")
    ] = None,
    head: Annotated[
        Head, typer.Option(help="A causal guard's output layer: the full one, or only the tokens of verdicts.")
    ] = Head.full,
    most_flips: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Largest share of verdicts that --form may change on the parity texts; default: 0.1."
        ),
    ] = None,
    tensorrt: Annotated[
        Path | None, typer.Option(help="Folder for TensorRT engines of this machine's GPU, built from the bundle.")
    ] = None,
) -> None:
    """Make a bundle: ONNX model, calibration, digests. The parity of torch and ONNX is measured and stored."""
    need("torch", "train")
    from guard.train.export import export as make

    if tensorrt is not None:
        from guard.train.causal.tensorrt import require

        require()
    parity = make(run, out, name, data, form and form.value, head.value, most_flips)
    for key, value in parity.items():
        typer.echo(f"parity {key}: {value:.3g}")
    if tensorrt is not None:
        from guard.train.causal.tensorrt import build

        for line in build(out, tensorrt):
            typer.echo(line)
    typer.echo(f"{out}: sealed; next: guard check --model {out} TEXT")
