"""`guard data confounds`: what predicts the label of a built data set other than harm, before and after mixing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guard.cli import report_file
from guard.report.tables import add, number_table, show

if TYPE_CHECKING:
    from rich.table import Table

    from guard.data.build.columns import Columns, Floats
    from guard.data.dataset.confounds.measure import Confound, Report

_TABLES = ("language", "length", "kind", "source", "role", "licence", "language × kind")


def confounds(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `guard data build`.")],
    split: Annotated[str, typer.Option(metavar="train|dev|test|development", help="The split to measure.")] = "train",
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only rows of this kind, such as prompt.")] = None,
    mixing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Use this `mixing` section instead of the stored weights."),
    ] = None,
    warn_above: Annotated[float, typer.Option(min=0.5, max=1.0, help="Warn if a probe's AUROC exceeds this.")] = 0.65,
    seed: Annotated[int, typer.Option(help="Seed of the sample for the probes.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the reports to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print both reports and their comparison as JSON.")] = False,
) -> None:
    """Show label x language, length, kind, source …, and how well a classifier predicts the label from these alone.

    "Before" counts each row once, "after" by its weight. The AUROC is that of a classifier that sees only the
    confound; without this shortcut it is 0.5.

    Example: guard data confounds data/default
    """
    from guard.data.build.select import SPLITS
    from guard.data.dataset.confounds import measure, outline
    from guard.data.dataset.confounds import report as confound_report
    from guard.errors import DataError, InvalidInput

    if split not in SPLITS:
        raise InvalidInput(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    report_file.check(out)
    path = data / f"{split}.parquet"
    if not path.is_file():
        raise DataError(f"no data at {path}; make it with: guard data build CONFIG --root DIR --out {data}")
    stored = outline.read_outline(path)
    weights = stored.weights if mixing is None else _mixed_weights(mixing, data, split, stored.columns)
    columns = stored.columns if kind is None else _of_kind(stored.columns, kind)
    sample = outline.read_sample(path, measure.draw_sample(columns.counted, seed))
    before = measure.measure(columns, columns.base, sample, warn_above)
    after = measure.measure(columns, weights, sample, warn_above)
    text = json.dumps(confound_report.to_json(before, after), indent=1, ensure_ascii=False)
    if out is not None:
        report_file.write(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(before, after)


def _mixed_weights(mixing: Path, data: Path, split: str, columns: Columns) -> Floats:
    """The weights that a build with this mixing section would store, except for its category caps."""
    from guard import schema
    from guard.data.build import mix
    from guard.errors import ConfigError, InvalidInput

    if split != "train":
        raise InvalidInput(f"--mixing applies only to the train split (got --split {split})")
    section = schema.load(mixing, mix.Mixing, ConfigError)
    if section.category_caps:
        typer.echo(f"note: {mixing}: `category_caps` drop rows, so only a build can show their effect", err=True)
    return mix.weights(dataclasses.replace(columns, base=_base_weights(data, columns)), section)


def _base_weights(data: Path, columns: Columns) -> Floats:
    """The weight of each row's source, as the build was configured."""
    import numpy as np

    from guard.data.dataset.open import open_dataset
    from guard.errors import DataError

    config = open_dataset(data).manifest.config
    try:
        weights = {use["source"]: float(use["weight"]) for use in config["sources"]}
        weights |= {entry["name"]: float(entry["weight"]) for entry in config.get("data", ())}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{data}: the manifest has no source weights; rebuild the data") from None
    source = columns.of["source"]
    return np.array([weights.get(name, 1.0) for name in source.values])[source.codes]


def _of_kind(columns: Columns, kind: str) -> Columns:
    from guard.errors import InvalidInput

    column = columns.of["kind"]
    if kind not in column.values:
        raise InvalidInput(f"no rows of kind {kind!r}; available: {', '.join(column.values)}")
    return dataclasses.replace(columns, counted=columns.counted & (column.codes == column.values.index(kind)))


def _print(before: Report, after: Report) -> None:
    from guard.data.dataset.confounds import report as confound_report

    later = {confound.name: confound for confound in after.confounds}
    for confound in before.confounds:
        if confound.name in _TABLES and confound.name in later:
            show(_value_table(confound, later[confound.name]))
    show(_comparison(before, after))
    typer.echo(
        f"{before.rows:,} rows, {before.unsafe_share:.1%} unsafe; after mixing {after.rows:,} rows of positive weight, "
        f"{after.unsafe_share:.1%} unsafe by weight, effective sample size {after.effective_rows:,.0f}; "
        f"probes on {before.sampled:,} rows"
    )
    remaining = {confound.name for confound in after.warned}
    if settled := [confound.name for confound in before.warned if confound.name not in remaining]:
        typer.echo(f"settled by mixing: {', '.join(settled)}")
    for line in confound_report.warnings(after):
        typer.echo(f"warning: {line}")


def _value_table(before: Confound, after: Confound) -> Table:
    """Rows of each value by label, and its share of the weight and of unsafe weight, before and after."""
    table = number_table(before.name, "safe", "unsafe", "unsafe %", "after", "weight %", "after")
    later = {value.value: value for value in after.table}
    totals = [sum(value.weight for value in confound.table) for confound in (before, after)]
    for value in before.table:
        mixed = later.get(value.value)
        add(
            table,
            value.value,
            value.safe_rows,
            value.unsafe_rows,
            _percent(value.unsafe, value.weight),
            _percent(mixed.unsafe, mixed.weight) if mixed else "–",
            _percent(value.weight, totals[0]),
            _percent(mixed.weight if mixed else 0.0, totals[1]),
        )
    return table


def _comparison(before: Report, after: Report) -> Table:
    from guard.data.dataset.confounds import report as confound_report

    names = ("bits", "AUROC", "bal. acc.", "one-sided %")
    table = number_table("confound", "values", *(column for name in names for column in (name, "after")))
    for row in confound_report.compare(before, after):
        cells = []
        for key in ("bits", "auroc", "balanced_accuracy", "one_sided_share"):
            for when in ("before", "after"):
                value = row[when][key]
                cells.append("–" if value is None else _percent(value, 1.0) if "share" in key else f"{value:.3f}")
        add(table, row["name"], row["values"] or "–", *cells)
    return table


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"
