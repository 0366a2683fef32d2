"""`guard cascade`: a cheap guard for the clear cases, a dear one for the rest, as one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from guard.errors import need


def cascade(
    second: Annotated[Path, typer.Argument(help="The bundle that also judges what the first is unsure about.")],
    out: Annotated[Path, typer.Argument(help="The bundle to make; must not exist.")],
    data: Annotated[Path, typer.Option(help="Rows to fit on: the dev split of a `guard data build`, or your own.")],
    first: Annotated[
        Path | None, typer.Option(help="The bundle that judges every text; default: the shipped one.")
    ] = None,
    prompts: Annotated[float, typer.Option(min=0, max=1, help="Share of the prompts that the second judges.")] = 0.3,
    responses: Annotated[float, typer.Option(min=0, max=1, help="Share of the responses that it judges.")] = 1.0,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's.")] = None,
) -> None:
    """Combine two guards: the first decides clear cases, both the rest, by their mean calibrated log-odds.

    The table shows what each share would cost and bring on the dev rows.

    Example: guard cascade bundles/8b bundles/both --data data/default
    """
    need("scipy", "train")
    from guard.conversation import Target
    from guard.report.tables import show
    from guard.train.cascade import fit

    curve = fit(first, second, out, data, {Target.PROMPT: prompts, Target.RESPONSE: responses}, name)["curve"]
    show(*(_table(target.value, curve[target.value]) for target in Target))
    typer.echo(f"{out}: sealed; next: guard check --model {out} TEXT")


def _table(target: str, curve: dict[str, Any]) -> Any:
    from guard.report.tables import add, number_table

    table = number_table(f"{target}s to the second", "AUPRC, %", "recall at 5 % FPR, %", "CPU ms a text")
    for name, point in [("", each) for each in curve["points"]] + [("chosen: ", curve["chosen"])]:
        numbers = (f"{100 * point[key]:.1f}" for key in ("auprc", "recall_at_5_fpr"))
        add(table, f"{name}{point['share']:.0%}", *numbers, f"{point['cpu_ms']:.1f}")
    return table
