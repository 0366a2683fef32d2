"""`guard audit`: a sample of filtered rows for people to label, and what the labels say about the guard."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from guard.cli import names
from guard.report import tables

app = typer.Typer(no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(metavar="AUDIT", help="The folder of an audit.", show_default=False)]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The labels; default: AUDIT/labels.csv.", show_default=False)
]


@app.command("draw")
def draw(
    scored: Annotated[
        list[str],
        typer.Argument(metavar="SCORED…", help="What `guard filter --annotate` wrote.", show_default=False),
    ],
    out: Annotated[Path, typer.Argument(metavar="AUDIT", help="The folder to make.", show_default=False)],
    rows: Annotated[int, typer.Option(min=1, help="Rows to label.")] = 200,
    columns: Annotated[str, typer.Option(metavar="ROLE=COLUMN,…", help="As of `guard filter`.")] = "",
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The policy whose categories unsafe rows may be given.",
            autocompletion=names.policies,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another sample for another seed.")] = 0,
) -> None:
    """Draw a sample of scored rows to be labelled, from every outcome and range of p_unsafe alike.

    Label them on AUDIT/page.html or in AUDIT/labels.csv. Neither shows the scores.

    Example: guard audit draw scored.jsonl audit --rows 200
    """
    from guard import policy as policies
    from guard.filter.audit import folder, sample
    from guard.filter.audit.page import page
    from guard.filter.columns import parse_columns
    from guard.filter.inputs import opened

    names = {} if policy is None else {each.code: each.name for each in policies.load(policy).categories}
    with opened(scored, out) as sources:
        drawn, strata = sample.draw(sources, parse_columns(columns), rows, seed)
    folder.write(out, drawn, strata, page(drawn, names))
    total = sum(stratum.rows for stratum in strata)
    typer.echo(f"drew {len(drawn)} of {total} rows from {len(strata)} strata; label them on {out / 'page.html'} (save")
    typer.echo(f"the labels to {out / 'labels.csv'}) or in that file, then run: guard audit estimate {out}")


@app.command("estimate")
def estimate(
    audit: Folder,
    labels: Labels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimates as JSON.")] = False,
) -> None:
    """Estimate precision, recall, false-positive rate and the share of unsafe rows, of all filtered rows.

    Example: guard audit estimate audit
    """
    from guard.filter.audit import folder
    from guard.filter.audit.estimate import estimate as estimated
    from guard.filter.audit.labels import read_labels

    drawn, strata = folder.read(audit)
    said = read_labels(labels or audit / "labels.csv", [each.id for each in drawn])
    made = estimated(drawn, strata, said)
    if as_json:
        found = {"labelled": len(said), "rows": sum(each.rows for each in strata)}
        typer.echo(json.dumps({**found, **{name: asdict(each) for name, each in made.items()}}, indent=1))
        return
    shown = tables.table("metric", "estimate", "95 % interval")
    for name, each in made.items():
        value = "undefined" if each.value is None else f"{each.value:.3f}"
        tables.add(shown, name.replace("_", " "), value, f"{each.low:.3f} to {each.high:.3f}")
    tables.show(shown)


def from_filter(
    audit: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The rows, as .jsonl.", show_default=False)],
    rows: Annotated[int | None, typer.Option(min=1, help="The most rows to take; default: all.")] = None,
    labels: Labels = None,
) -> None:
    """Turn the labelled rows of an audit into training data.

    First come those that the guard got wrong or was least sure of, and no two are alike.

    Example: guard data from-filter audit rows.jsonl
    """
    from guard.filter.audit import folder
    from guard.filter.audit.labels import read_labels
    from guard.filter.audit.training_rows import training_rows
    from guard.jobs.atomic import atomic
    from guard.jobs.paths import check_output

    check_output(out)
    drawn, _ = folder.read(audit)
    said = read_labels(labels or audit / "labels.csv", [each.id for each in drawn])
    made = list(training_rows(drawn, said, rows))
    with atomic(out, private=True) as file:
        file.writelines(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in made)
    typer.echo(f"{len(made)} of {len(said)} labelled rows: {out}")
