"""`guard data confounds`: what tells the label of a built data set without being harm, before and after mixing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.report import tables

if TYPE_CHECKING:
    from rich.table import Table

    from guard.data.build.columns import Columns, Floats
    from guard.data.dataset.confounds.measure import Confound, Report

_TABLES = ("language", "length", "kind", "source", "role", "licence", "language × kind")


def confounds(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `guard data build`.")],
    split: Annotated[str, typer.Option(metavar="train|dev|test|development", help="Which split.")] = "train",
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only rows of this kind, such as prompt.")] = None,
    mixing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Try this `mixing` section in place of the weights that were stored."),
    ] = None,
    warn_above: Annotated[float, typer.Option(min=0.5, max=1.0, help="Warn from this AUROC of a probe on.")] = 0.65,
    seed: Annotated[int, typer.Option(help="Of the sample that probes are fitted on.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the reports there, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Both reports and their comparison as JSON.")] = False,
) -> None:
    """Show label x language, length, kind, source …, and how far a classifier gets by these alone.

    "Before" counts each row once; "after" by its weight. AUROC is that of a classifier which sees nothing but the
    confound: 0.5 is what a data set without this shortcut has.
    """
    from guard.data.build.select import SPLITS
    from guard.data.dataset.confounds import measure, outline
    from guard.data.dataset.confounds import report as confound_report
    from guard.errors import DataError, InvalidInput

    if split not in SPLITS:
        raise InvalidInput(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidInput(f"{out}: there is no folder {out.absolute().parent}; make it first")
    path = data / f"{split}.parquet"
    if not path.is_file():
        raise DataError(f"no data at {path}; make it with: guard data build CONFIG --root DIR --out {data}")
    stored = outline.read_outline(path)
    weights = stored.weights if mixing is None else _tried(mixing, data, split, stored.columns)
    shown = stored.columns if kind is None else _of_kind(stored.columns, kind)
    sample = outline.read_sample(path, measure.draw_sample(shown.counted, seed))
    before = measure.measure(shown, shown.base, sample, warn_above)
    after = measure.measure(shown, weights, sample, warn_above)
    told = json.dumps(confound_report.to_json(before, after), indent=1, ensure_ascii=False)
    if out is not None:
        _write(out, told + "\n")
    if as_json:
        typer.echo(told)
    else:
        _print(before, after)


def _write(path: Path, text: str) -> None:
    from guard.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(f"{path}: cannot be written: {problem.strerror}") from None


def _tried(mixing: Path, data: Path, split: str, columns: Columns) -> Floats:
    """The weights that a build with this mixing section would store, but for its category caps."""
    from guard import schema
    from guard.data.build import mix
    from guard.errors import ConfigError, InvalidInput

    if split != "train":
        raise InvalidInput(
            f"--mixing is worked out on the rows that are learnt from, not on {split}; use --split train"
        )
    wanted = schema.load(mixing, mix.Mixing, ConfigError)
    if wanted.category_caps:
        typer.echo(f"note: {mixing}: `category_caps` drop rows, so only a build can show what they do", err=True)
    return mix.weights(dataclasses.replace(columns, base=_base(data, columns)), wanted)


def _base(data: Path, columns: Columns) -> Floats:
    """The weight of each row's source, as the build was configured."""
    import numpy as np

    from guard.data.dataset.open import open_dataset
    from guard.errors import DataError

    config = open_dataset(data).manifest.config
    try:
        weights = {use["source"]: float(use["weight"]) for use in config["sources"]}
        weights |= {own["name"]: float(own["weight"]) for own in config.get("data", ())}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{data}: its manifest does not say how sources were weighed; build it again") from None
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

    console = tables.console()
    later = {one.name: one for one in after.confounds}
    for one in before.confounds:
        if one.name in _TABLES and one.name in later:
            console.print(_counts(one, later[one.name]))
    console.print(_comparison(before, after))
    console.print(
        f"{before.rows:,} rows, {before.unsafe_share:.1%} unsafe; after mixing {after.rows:,} rows weigh anything, "
        f"{after.unsafe_share:.1%} unsafe by weight, worth {after.effective_rows:,.0f} rows of equal weight; "
        f"probes on {before.sampled:,} rows",
        soft_wrap=True,
    )
    left = {one.name for one in after.warned}
    if settled := [one.name for one in before.warned if one.name not in left]:
        console.print(f"settled by mixing: {', '.join(settled)}", soft_wrap=True)
    for line in confound_report.warnings(after):
        console.print(f"warning: {line}", soft_wrap=True)


def _counts(before: Confound, after: Confound) -> Table:
    """Rows of each value by label, and its share of the weight and of unsafe weight, before and after."""
    table = _table(before.name, "safe", "unsafe", "unsafe %", "after", "weight %", "after")
    later = {value.value: value for value in after.table}
    totals = [sum(value.weight for value in one.table) for one in (before, after)]
    for value in before.table:
        then = later.get(value.value)
        table.add_row(
            _plain(value.value),
            f"{value.safe_rows:,}",
            f"{value.unsafe_rows:,}",
            _percent(value.unsafe, value.weight),
            _percent(then.unsafe, then.weight) if then else "–",
            _percent(value.weight, totals[0]),
            _percent(then.weight if then else 0.0, totals[1]),
        )
    return table


def _comparison(before: Report, after: Report) -> Table:
    from guard.data.dataset.confounds import report as confound_report

    names = ("bits", "AUROC", "bal. acc.", "one-sided %")
    table = _table("confound", "values", *(word for name in names for word in (name, "after")))
    for row in confound_report.compare(before, after):
        cells = []
        for key in ("bits", "auroc", "balanced_accuracy", "one_sided_share"):
            for when in ("before", "after"):
                value = row[when][key]
                cells.append("–" if value is None else _percent(value, 1.0) if "share" in key else f"{value:.3f}")
        table.add_row(_plain(row["name"]), f"{row['values']:,}" if row["values"] else "–", *cells)
    return table


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # rich would read square brackets in a name as markup


def _table(first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(_plain(first), overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
