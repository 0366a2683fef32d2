"""`guard export`: make a sealed bundle from a finished run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guard.errors import InvalidInput, need

if TYPE_CHECKING:
    from guard.prompts.prompted import Shot


class Form(StrEnum):
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"
    int4 = "int4"


class Detail(StrEnum):
    names = "names"
    short = "short"
    full = "full"


class Head(StrEnum):
    full = "full"
    verdict = "verdict"


def export(
    run: Annotated[
        Path,
        typer.Argument(help="A finished run of `guard train`; or a released guard or chat model, as a base is."),
    ],
    out: Annotated[Path, typer.Argument(help="The bundle to write; must not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the dev split to calibrate on; default: the run's own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's.")] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            help="Precision of the weights; int8, int4: integers in linear layers. An encoder has fp16, int8, and "
            "int4, which is int8 with the embedding in 4 bits."
        ),
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
    prompted: Annotated[
        bool, typer.Option("--prompted", help="Prompt an untrained chat model to judge, in its own chat template.")
    ] = False,
    shots: Annotated[
        int, typer.Option(min=0, max=32, help="Labelled examples before each text, from the train split of --data.")
    ] = 0,
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Policy of a released guard or chat model; default: its own."),
    ] = None,
    detail: Annotated[
        Detail, typer.Option(help="How much of each category the prompt of such a model has.")
    ] = Detail.full,
    max_tokens: Annotated[int, typer.Option(min=256, help="Window size in tokens of such a model.")] = 4096,
    tensorrt: Annotated[
        Path | None, typer.Option(help="Folder for TensorRT engines of this machine's GPU, built from the bundle.")
    ] = None,
) -> None:
    """Make a bundle: ONNX model, calibration, digests. The parity of torch and ONNX is measured and stored.

    Example: guard export runs/mine bundles/mine
    """
    if shots and (not prompted or data is None):
        raise InvalidInput(
            f"--shots {shots}: goes with --prompted, and with --data, whose train split has the examples"
        )
    need("torch", "train")
    from guard.train.export import export as make

    if tensorrt is not None:
        from guard.train.causal.tensorrt import require

        require()
    use = None
    if prompted or _is_released(run):
        from guard.prompts.prompted import Judging
        from guard.train.causal.untrained import AsReleased

        judging = Judging(shots=_shots(data, shots, policy or "mlcommons")) if prompted else None
        use = AsReleased(policy, detail.value, max_tokens, judging)
    if use is None and policy is not None:
        raise InvalidInput("--policy is of a model that is not trained here; a run has the policy it was trained for")
    parity = make(run, out, name, data, form and form.value, head.value, most_flips, use)
    for key, value in parity.items():
        typer.echo(f"parity {key}: {value:.3g}")
    if tensorrt is not None:
        from guard.train.causal.tensorrt import build

        for line in build(out, tensorrt):
            typer.echo(line)
    typer.echo(f"{out}: sealed; next: guard check --model {out} TEXT")


def _is_released(model: Path) -> bool:
    """Whether it is a model as it was released, not a run, finished or not: a folder, a file, or a name on the hub."""
    run = any((model / name).is_file() for name in ("run.json", "started.json"))
    return not run and ((model / "config.json").is_file() or not model.is_dir())


def _shots(data: Path | None, count: int, policy: str) -> tuple[Shot, ...]:
    from guard import policy as policies
    from guard.data.dataset.examples import load_examples
    from guard.train.causal.shots import choose_shots

    if data is None or not count:
        return ()
    rules = policies.load(policy)
    return choose_shots(load_examples(data, "train", rules), count, rules, seed=7)
