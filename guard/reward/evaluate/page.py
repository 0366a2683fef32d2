"""The report of an evaluation of reward models, as tables on the terminal and as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from guard.report import html, plots

if TYPE_CHECKING:
    from rich.table import Table

Report = Mapping[str, Any]
_ROWS = (
    ("accuracy", "accuracy"),
    ("win_probability", "mean win probability"),
    ("nll", "negative log-likelihood"),
    ("ece", "expected calibration error"),
    ("best_of", "best of n"),
    ("ties", "ties (RewardBench 2)"),
    ("length.spearman", "score against length (Spearman)"),
    ("length.longer_is_better", "accuracy where the better is longer"),
    ("length.shorter_is_better", "accuracy where the better is shorter"),
    ("length.longest_wins", "accuracy of the longer answer"),
    ("position.consistent", "both orders agree"),
    ("position.prefers_first", "prefers the first"),
    ("position.gap", "gap between the orders"),
    ("repeats.sd", "standard deviation over repeats"),
    ("repeats.flips", "verdicts that change over repeats"),
    ("people_and_judges.agreed", "pairs on which a person and a judge agree"),
    ("people_and_judges.kappa", "… beyond chance (Cohen's kappa)"),
    ("chosen.mean", "mean score of better answers"),
    ("rejected.mean", "mean score of worse answers"),
    ("label_mass", "probability of the deciding words"),
    ("coverage", "share of the texts that was read"),
    ("ms_per_pair", "ms per pair"),
)


def _value(report: Report, path: str) -> str | None:
    value: Any = report
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        low, high = value["interval"]
        return f"{value['value']:.3f} [{low:.3f}, {high:.3f}]"
    return None if value is None else f"{value:.3f}"


def _numbers(report: Report) -> Iterator[tuple[str, ...]]:
    """A row for each number, one column for each model."""
    models = [report, report["against"]] if "against" in report else [report]
    for path, name in _ROWS:
        values = [_value(each, path) for each in models]
        if any(value is not None for value in values):
            yield name, *(value or "" for value in values)


def _subsets(report: Report) -> Iterator[tuple[str, str, str]]:
    for name, each in report.get("by_subset", {}).items():
        low, high = each["interval"]
        yield name, f"{each['value']:.3f} [{low:.3f}, {high:.3f}]", f"{each['rows']:,}"
    for name, value in report.get("sections", {}).items():
        yield f"section {name}", f"{value:.3f}", ""


def _track(report: Report) -> Iterator[tuple[str, str, str, str]]:
    for row in report.get("track", ()):
        low, high = row["interval"]
        lead = "" if row["length_bias"] is None else f"{row['length_bias']:.3f}"
        yield row["checkpoint"], f"{row['accuracy']:.3f} [{low:.3f}, {high:.3f}]", lead, row["mark"]


def _models(report: Report) -> list[str]:
    return [report["model"], report["against"]["model"]] if "against" in report else [report["model"]]


def _difference(report: Report) -> str | None:
    if "against" not in report:
        return None
    other = report["against"]
    low, high = other["interval"]
    return f"{other['difference']:+.3f} [{low:+.3f}, {high:+.3f}]; they agree on {other['agreement']:.1%} of the pairs"


def _left_out(report: Report) -> str:
    count = report["left_out"]
    return f" {count:,} rows are left out: a model learnt from their prompts." if count else ""


def tables(report: Report) -> list[Table]:
    """The report on the terminal."""
    from guard.report.tables import number_table

    shown = [number_table("", *_models(report), rows=_numbers(report))]
    if told := _difference(report):
        shown.append(number_table("", "difference of accuracy", rows=[("", told)]))
    if subsets := list(_subsets(report)):
        shown.append(number_table("subset", "accuracy", "pairs", rows=subsets))
    if report["left_out"]:
        shown.append(number_table("", "rows", rows=[("left out, as learnt from", f"{report['left_out']:,}")]))
    if rows := list(_track(report)):
        shown.append(number_table("checkpoint", "accuracy", "length bias", "", rows=rows))
    return shown


def page(report: Report) -> str:
    """The report as one HTML page."""
    numbers = [html.table("All pairs", ["", *_models(report)], list(_numbers(report)))]
    if told := _difference(report):
        numbers.append(html.note("Difference of accuracy", told))
    subsets = {name: each["value"] for name, each in report.get("by_subset", {}).items()}
    by_subset = []
    if subsets:
        table = html.table("Accuracy by subset", ["subset", "accuracy", "pairs"], list(_subsets(report)))
        by_subset = [html.figure("Accuracy by subset", _bars("subsets", subsets), table)]
    tracked = {row["checkpoint"]: row["accuracy"] for row in report.get("track", ())}
    by_checkpoint = []
    if tracked:
        rows = list(_track(report))
        table = html.table("Checkpoints in order", ["checkpoint", "accuracy", "length bias", "mark"], rows)
        by_checkpoint = [html.figure("Accuracy by checkpoint", _bars("track", tracked), table)]
        if degraded := [row[0] for row in rows if row[3] == "DEGRADED"]:
            by_checkpoint.insert(0, html.note("DEGRADED", ", ".join(degraded), alarm=True))
    sections = [
        html.Section("numbers", "Numbers", numbers),
        html.Section("subsets", "Subsets", by_subset),
        html.Section("track", "Checkpoints", by_checkpoint),
    ]
    summary = [html.paragraph(f"{report['system']} on {report['rows']:,} rows.{_left_out(report)}")]
    footer = Markup("<p>fingerprint {}</p>").format(report["fingerprint"])
    return html.page("Reward model", f"Reward model {report['model']}", summary, sections, footer)


def _bars(name: str, values: Mapping[str, float]) -> Markup:
    return plots.bars(name, "Accuracy", list(values), {"accuracy": list(values.values())}, "accuracy")
