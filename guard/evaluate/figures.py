"""The sections of an evaluation's page that show plots, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from guard.evaluate import plots
from guard.evaluate.breakdown import SAFE
from guard.evaluate.report import CATEGORY_COLUMNS, Judged, category_cells, figure
from guard.metrics import classification
from guard.report import plots as card_plots
from guard.report.html import Html, element, table
from guard.report.html import figure as plot

Results = Mapping[str, Mapping[str, Any]]  # by the name that the page calls a set


def curves(results: Results, sets: Mapping[str, Judged]) -> list[Html]:
    traced, rows = {}, []
    for name, judged in sets.items():
        found, result = classification.curves(judged.labels, judged.scores), results[name]
        if found is not None:
            traced[name] = plots.Traced(found, result["fpr"], result["recall"], result["precision"])
            rows.append((name, *(figure(result[key]) for key in ("auprc", "auroc", "precision", "recall", "fpr"))))
    if not traced:
        return []
    numbers = table("Areas, and the dots", ("set", "AUPRC", "AUROC", "precision", "recall", "FPR"), rows)
    svg = plots.operating_curves(
        "curves", "Precision-recall and ROC curves of each set; the table has the areas", traced, [*sets]
    )
    return [plot("Precision against recall, and ROC. Dots: the guard's thresholds.", svg, numbers)]


def calibration(results: Results) -> list[Html]:
    both = {name: result for name, result in results.items() if result["ece"] is not None}
    if not both:
        return []
    rows = [
        (name, f"{part['low']:.2f}–{part['high']:.2f}", part["rows"], figure(part["mean"]), figure(part["unsafe"]))
        for name, result in both.items()
        for part in result["reliability"]
    ]
    svg = plots.reliability(
        "reliability",
        "Share of unsafe rows by mean probability, for each set; the table has the numbers",
        {name: result["reliability"] for name, result in both.items()},
        [*results],
    )
    words = "Of rows with p near 0.7, seven in ten should be unsafe. Larger dots stand for more rows. ECE: "
    told = ", ".join(f"{name} {figure(result['ece'])}" for name, result in both.items())
    numbers = table("Bins", ("set", "p(unsafe)", "rows", "mean p", "share unsafe"), rows)
    return [plot(f"{words}{told}.", svg, numbers)]


def categories(results: Results) -> list[Html]:
    blocks: list[Html] = []
    for place, (name, result) in enumerate(results.items()):
        found = result["categories"]
        if not found:
            continue
        ends = {
            "named": [found[item]["named"] for item in found],
            "flagged as unsafe": [found[item]["recall"] for item in found],
        }
        svg = card_plots.dumbbells(
            f"categories{place}",
            f"Recall by category of {name}; the table has the numbers",
            list(found),
            ends,
            "share of the rows that violate the code",
            {},
        )
        numbers = table(
            f"Categories of {name}",
            ("code", *CATEGORY_COLUMNS),
            [(item, *category_cells(found[item])) for item in found],
        )
        blocks += [
            element("h3", name),
            plot("Rows that violate a code: flagged as unsafe, and with the code among those named.", svg, numbers),
            *_confusion(name, place, result["named"]),
        ]
    return blocks


def _confusion(name: str, place: int, named: Mapping[str, Mapping[str, int]]) -> list[Html]:
    """True codes down, the code that the verdict puts first across."""
    firsts = (first for row in named.values() for first in row)
    columns = [*dict.fromkeys(item for item in (*named, *firsts) if item != SAFE), SAFE]
    counts = np.array([[row.get(first, 0) for first in columns] for row in named.values()])
    svg = card_plots.heat(
        f"named{place}", f"What rows of each category of {name} are taken for", list(named), columns, counts
    )
    rows = [(true, *(int(count) for count in line)) for true, line in zip(named, counts, strict=True)]
    return [
        plot(
            "Down: what a row violates. Across: the code that its verdict puts first, or safe where it is not flagged.",
            svg,
            table(f"Confusion by category of {name}", ("true", *columns), rows),
        )
    ]


def lengths(results: Results) -> list[Html]:
    rows = [
        (
            name,
            f"{part['low']:,}–{part['high'] - 1:,}",
            sum(part["confusion"].values()),
            figure(part["recall"]),
            figure(part["fpr"]),
        )
        for name, result in results.items()
        for part in result["lengths"]
    ]
    svg = plots.by_length(
        "lengths",
        "Recall and false-positive rate by length; the table has the numbers",
        {name: result["lengths"] for name, result in results.items()},
        [*results],
    )
    numbers = table("Recall and false alarms by length", ("set", "characters", "rows", "recall", "FPR"), rows)
    return [plot("Recall and false alarms by characters of the judged message.", svg, numbers)]
