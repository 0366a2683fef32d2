"""`guard eval transfer`: how well training recipes carry over to sources that they never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import report_file
from guard.cli.train import config_file

if TYPE_CHECKING:
    from rich.table import Table


def transfer(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A shipped configuration's name, or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes, for example data=out/build.")
    ] = None,
    fold: Annotated[list[str] | None, typer.Option(help="Only this fold; may be repeated.")] = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Only this candidate; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the numbers to this file.")] = None,
) -> None:
    """Hold whole sources out in turn, train each candidate on the rest, and score it on what it never saw.

    An evaluation that was interrupted goes on when the same command is given again.

    Example: guard eval transfer transfer data=data/default
    """
    from guard.errors import need
    from guard.evaluate.transfer.config import load
    from guard.evaluate.transfer.evaluation import evaluate
    from guard.report.tables import show

    for package in ("torch", "sklearn"):
        need(package, "train")
    report_file.check(out)
    measured = evaluate(load(config_file(config), tuple(overrides or ())), fold or (), candidate or ())
    text = json.dumps(measured, indent=2, ensure_ascii=False)
    if out is not None:
        report_file.write(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(*_tables(measured))


def _tables(measured: dict[str, Any]) -> list[Table]:
    from guard.report.tables import add, number_table

    recall = f"FPR at {measured['recall']:.0%} recall"
    contestants = list(measured["summary"])
    areas = number_table("AUPRC of held-out sources, %", "rows", "unsafe", *contestants)
    rates = number_table(f"{recall}, %", *contestants)
    for name, fold in measured["folds"].items():
        numbers = fold["contestants"]
        add(areas, name, fold["rows"]["test"], fold["unsafe"], *(_percent(numbers[c]["auprc"]) for c in contestants))
        add(rates, name, *(_percent(numbers[c]["fpr_at_recall"]) for c in contestants))
    total = measured["summary"]
    for key in ("mean", "worst"):
        add(areas, key, "", "", *(_percent(total[c][f"{key}_auprc"]) for c in contestants))
        add(rates, key, *(_percent(total[c][f"{key}_fpr_at_recall"]) for c in contestants))
    return [areas, rates]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
