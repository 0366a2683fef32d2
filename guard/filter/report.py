"""The page of a filtering run: what was flagged, where, how surely, and a few examples that are hidden at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from guard.filter.tally import BINS
from guard.report import html, plots
from guard.report.html import Section

_MOST_GROUPS = 30


def page(report: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """report: as in OUT.report.json. examples: UNSAFE rows. names: those of the policy's categories by code."""
    read = report["read"]
    summary = [
        html.paragraph(
            f"{read:,} rows read = {report['kept']:,} kept + {report['dropped']:,} dropped + "
            f"{report['quarantined']:,} quarantined."
        ),
        html.paragraph(
            f"Kept: {report['keep']}. Mode {report['mode']}, threshold {report['threshold'] or 'of the mode'}; "
            f"model {report['model'][:12]}, policy {report['policy'][:12]}."
        ),
    ]
    by = "file" if report["by"] is None else f"`{report['by']}`"
    sections = [
        Section("groups", f"UNSAFE rows by {by}", _rates("groups", report, by)),
        Section("categories", "Categories", _categories(report, names)),
        Section("scores", "Scores", _scores(report)),
        Section("lengths", "Lengths", _lengths(report)),
        Section("languages", "Languages", _rates("languages", report, "language")),
        Section("quarantine", "Quarantined rows", _quarantine(report)),
        Section("examples", "Examples of UNSAFE rows", _examples(examples)),
    ]
    footer = Markup("Written by {}; it loads nothing.").format(html.code("guard filter"))
    return html.page("Filtering report", "Filtering report", summary, sections, footer)


def _rates(spread: str, report: Mapping[str, Any], unit: str) -> list[Markup]:
    rows, flagged = report[spread], report[f"{spread}_flagged"]
    shown = sorted(rows, key=lambda name: (-rows[name], name))[:_MOST_GROUPS]
    if not shown:
        return []
    shares = [100 * flagged.get(name, 0) / rows[name] for name in shown]
    notes = [f"{flagged.get(name, 0):,} of {rows[name]:,}" for name in shown]
    title = f"Share of UNSAFE rows by {unit}, %"
    numbers = html.table(
        title,
        [unit, "rows", "UNSAFE", "share"],
        [(name, rows[name], flagged.get(name, 0), html.share(flagged.get(name, 0), rows[name])) for name in shown],
    )
    left_out = len(rows) - len(shown)
    more = [html.paragraph(f"{left_out:,} more with fewer rows are not shown.")] if left_out else []
    return [html.figure(title, plots.bars(spread, title, shown, {"UNSAFE": shares}, "%", notes), numbers), *more]


def _categories(report: Mapping[str, Any], names: Mapping[str, str]) -> list[Markup]:
    flagged = report["flagged"]
    if not flagged:
        return []
    shown = sorted(flagged, key=lambda code: (-flagged[code], code))
    titles = [f"{code} {names.get(code, '')}".strip() for code in shown]
    title = "Rows flagged in each category; a row may have several"
    numbers = html.table(
        title,
        ["category", "rows", "of all judged"],
        [
            (name, flagged[code], html.share(flagged[code], sum(report["outcomes"].values())))
            for name, code in zip(titles, shown, strict=True)
        ],
    )
    values = {"rows": [float(flagged[code]) for code in shown]}
    return [html.figure(title, plots.bars("categories", title, titles, values, "rows"), numbers)]


def _scores(report: Mapping[str, Any]) -> list[Markup]:
    if not report["scores"]:
        return []
    values = {f"{place / BINS:.2f}": report["scores"].get(str(place), 0) for place in range(BINS)}
    title = "Rows by p_unsafe, from the value below each bar"
    numbers = html.table(title, ["from", "rows"], list(values.items()))
    return [html.figure(title, plots.columns("scores", title, values, "p_unsafe", "rows"), numbers)]


def _lengths(report: Mapping[str, Any]) -> list[Markup]:
    rows, flagged = report["lengths"], report["lengths_flagged"]
    if not rows:
        return []
    bits = sorted(map(int, rows))
    values = {f"{1 << max(bit - 1, 0):,}": rows[str(bit)] for bit in bits}
    title = "Rows by the characters of their conversation, from the number below each bar"
    numbers = html.table(
        title,
        ["from", "rows", "UNSAFE", "share"],
        [
            (name, count, flagged.get(str(bit), 0), html.share(flagged.get(str(bit), 0), count))
            for (name, count), bit in zip(values.items(), bits, strict=True)
        ],
    )
    return [html.figure(title, plots.columns("lengths", title, values, "characters", "rows"), numbers)]


def _quarantine(report: Mapping[str, Any]) -> list[Markup]:
    reasons = sorted(report["reasons"].items(), key=lambda each: (-each[1], each[0]))
    return [html.table("Rows by reason", ["reason", "rows"], reasons)] if reasons else []


def _examples(examples: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not examples:
        return []
    rows = [(each["group"], f"{each['p_unsafe']:.3f}", ", ".join(each["flagged"]), each["text"]) for each in examples]
    table = html.table("The judged messages, from their starts", ["where", "p_unsafe", "flagged", "text"], rows)
    return [Markup("<details><summary>Show {} texts, which may disturb</summary>{}</details>").format(len(rows), table)]
