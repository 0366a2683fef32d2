"""The sections of an evaluation's page that hold plots, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from guard.evaluate.breakdown import SAFE
from guard.evaluate.report import CATEGORY_COLUMNS, EvaluatedSuite, category_cells, decimal
from guard.metrics import classification
from guard.report import curves as curve_plots
from guard.report import plots
from guard.report.html import figure, table

Results = Mapping[str, Mapping[str, Any]]  # by the name of the set on the page


def curves(results: Results, sets: Mapping[str, EvaluatedSuite]) -> list[Markup]:
    by_set, rows = {}, []
    for name, evaluated in sets.items():
        of_set, result = classification.curves(evaluated.labels, evaluated.scores), results[name]
        if of_set is not None:
            by_set[name] = curve_plots.OperatingCurves(of_set, result["fpr"], result["recall"], result["precision"])
            rows.append((name, *(decimal(result[key]) for key in ("auprc", "auroc", "precision", "recall", "fpr"))))
    if not by_set:
        return []
    numbers = table("Areas, and the dots", ("set", "AUPRC", "AUROC", "precision", "recall", "FPR"), rows)
    svg = curve_plots.operating_curves(
        "curves", "Precision-recall and ROC curves of each set; the table has the areas", by_set, [*sets]
    )
    return [figure("Precision against recall, and ROC. Dots: the guard's thresholds.", svg, numbers)]


def calibration(results: Results) -> list[Markup]:
    both = {name: result for name, result in results.items() if result["ece"] is not None}
    if not both:
        return []
    rows = [
        (name, f"{part['low']:.2f}–{part['high']:.2f}", part["rows"], decimal(part["mean"]), decimal(part["unsafe"]))
        for name, result in both.items()
        for part in result["reliability"]
    ]
    svg = curve_plots.reliability(
        "reliability",
        "Share of unsafe rows by mean probability, for each set; the table has the numbers",
        {name: result["reliability"] for name, result in both.items()},
        [*results],
    )
    errors = ", ".join(f"{name} {decimal(result['ece'])}" for name, result in both.items())
    caption = f"Of rows with p near 0.7, seven in ten should be unsafe. Larger dots are more rows. ECE: {errors}."
    return [figure(caption, svg, table("Bins", ("set", "p(unsafe)", "rows", "mean p", "share unsafe"), rows))]


def categories(results: Results) -> list[Markup]:
    blocks: list[Markup] = []
    for number, (name, result) in enumerate(results.items()):
        by_code = result["categories"]
        if not by_code:
            continue
        ends = {
            "named": [by_code[code]["named"] for code in by_code],
            "flagged as unsafe": [by_code[code]["recall"] for code in by_code],
        }
        svg = plots.dumbbells(
            f"categories{number}",
            f"Recall by category of {name}; the table has the numbers",
            list(by_code),
            ends,
            "share of the rows that violate the code",
            {},
        )
        numbers = table(
            f"Categories of {name}",
            ("code", *CATEGORY_COLUMNS),
            [(code, *category_cells(by_code[code])) for code in by_code],
        )
        blocks += [
            Markup("<h3>{}</h3>").format(name),
            figure("Rows that violate a code: flagged as unsafe, and with the code among those named.", svg, numbers),
            _confusion(name, number, result["named"]),
        ]
    return blocks


def _confusion(name: str, number: int, first_codes: Mapping[str, Mapping[str, int]]) -> Markup:
    """True codes in rows, the code that the verdict puts first in columns."""
    firsts = (first for row in first_codes.values() for first in row)
    columns = [*dict.fromkeys(code for code in (*first_codes, *firsts) if code != SAFE), SAFE]
    counts = np.array([[row.get(first, 0) for first in columns] for row in first_codes.values()])
    svg = plots.heat(
        f"named{number}", f"What rows of each category of {name} are taken for", list(first_codes), columns, counts
    )
    rows = [(true, *(int(count) for count in line)) for true, line in zip(first_codes, counts, strict=True)]
    return figure(
        "Rows: what a row violates. Columns: the code that its verdict puts first, or safe if it is not flagged.",
        svg,
        table(f"Confusion by category of {name}", ("true", *columns), rows),
    )


def lengths(results: Results) -> list[Markup]:
    rows = [
        (
            name,
            f"{part['low']:,}–{part['high'] - 1:,}",
            sum(part["confusion"].values()),
            decimal(part["recall"]),
            decimal(part["fpr"]),
        )
        for name, result in results.items()
        for part in result["lengths"]
    ]
    svg = curve_plots.by_length(
        "lengths",
        "Recall and false-positive rate by length; the table has the numbers",
        {name: result["lengths"] for name, result in results.items()},
        [*results],
    )
    numbers = table("Recall and false alarms by length", ("set", "characters", "rows", "recall", "FPR"), rows)
    return [figure("Recall and false alarms by characters of the judged message.", svg, numbers)]
