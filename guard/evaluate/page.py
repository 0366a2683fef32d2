"""The report of an evaluation as one HTML page that loads nothing: numbers, plots, published scores, worst mistakes.

It shows no text of any row unless requested; equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from guard.conversation import Label
from guard.evaluate import figures, mistakes, peers
from guard.evaluate.figures import Results
from guard.evaluate.mistakes import Mistake
from guard.evaluate.redteam.results import AttackTable
from guard.evaluate.report import COLUMNS, EvaluatedSuite, cells, decimal, parts
from guard.report.html import Section, bullets, code, link, note, page, paragraph, table

_STRONG = Markup("<strong>{}</strong>")


def evaluation_page(
    report: Mapping[str, Any],
    evaluated: Sequence[EvaluatedSuite],
    attacks: AttackTable | None = None,
    show_text: bool = False,
) -> str:
    """The page. evaluated: the suites of the report with their verdicts, in its order.

    show_text: include the texts of the worst mistakes, folded away; otherwise they are not in the file at all.
    """
    names = _distinct([result["name"] for result in report["results"]])
    results = dict(zip(names, report["results"], strict=True))
    sets = dict(zip(names, evaluated, strict=True))
    sections = [
        Section("results", "Results", _overview(results)),
        Section("published", "Published scores of other guards", _published(report)),
        Section("curves", "Every threshold", figures.curves(results, sets)),
        Section("calibration", "Calibration", figures.calibration(results)),
        Section("categories", "Categories", figures.categories(results)),
        Section("lengths", "Length", figures.lengths(results)),
        Section("refusals", "Refusals", _refusals(results)),
        Section("evasion", "Attacks", [] if attacks is None else [_attacks(attacks)]),
        Section("mistakes", "Worst mistakes", _mistakes(sets, show_text)),
        Section("sets", "Sets and what to know about them", _sets(results)),
    ]
    footer = Markup("Written by {}; it loads nothing.").format(code("guard eval"))
    return page(f"Evaluation of {report['model'][:12]}", "Evaluation", _summary(report, show_text), sections, footer)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number appended to repeated ones."""
    return [
        f"{name} ({names[:index].count(name) + 1})" if name in names[:index] else name
        for index, name in enumerate(names)
    ]


def _summary(report: Mapping[str, Any], show_text: bool) -> list[Markup]:
    policy, thresholds = report["policy"], report["thresholds"]
    facts = [
        ("model", Markup("{}, {}").format(report["kind"], code(report["model"]))),
        ("policy", Markup("{} {}, {}").format(policy["id"], policy["version"], code(policy["digest"]))),
        ("mode", report["mode"]),
        ("unsafe from p", ", ".join(f"{decimal(thresholds[target]['unsafe'])} ({target}s)" for target in thresholds)),
        ("command", code(report["command"])),
    ]
    shown = "This page shows the texts of the worst mistakes, folded away." if show_text else "This page shows none."
    return [
        table("What was measured", ("", ""), facts),
        note(
            "Content", f"Many rows are hateful, sexual or violent, or ask for help with harm. {shown}", alarm=show_text
        ),
    ]


def _overview(results: Results) -> list[Markup]:
    rows: list[tuple[object, ...]] = []
    intervals: list[tuple[object, ...]] = []
    for name, result in results.items():
        rows.append((_STRONG.format(name), *_without_dashes(cells(result))))
        rows += [(f"{name}: {part}", *_without_dashes(cells(numbers))) for part, numbers in parts(result)]
        bounds = result["intervals"]
        intervals.append((name, *(_interval(bounds[key]) for key in ("f1", "fpr", "recall", "auprc", "auroc"))))
    return [
        paragraph(
            "F1, FPR and recall are at the guard's own thresholds; best F1 and the recall at 1 % false alarms choose "
            "theirs on the set itself. A cell is empty where rows of one class cannot tell."
        ),
        table("All sets and their parts", ("set", *COLUMNS), rows),
        table("95 % bootstrap intervals", ("set", "F1", "FPR", "recall", "AUPRC", "AUROC"), intervals),
    ]


def _without_dashes(values: Iterable[str]) -> list[str]:
    """The values with empty strings for dashes, so that a column counts as numeric."""
    return ["" if value == decimal(None) else value for value in values]


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"{decimal(bounds[0])}–{decimal(bounds[1])}"


def _published(report: Mapping[str, Any]) -> list[Markup]:
    blocks: list[Markup] = []
    for comparison in peers.compare(report):
        ours = (_STRONG.format("this guard, measured here"), "", *_without_dashes(map(decimal, comparison.ours)))
        theirs = [
            (model, f"{run_by}: {source}", *map(decimal, values)) for model, run_by, source, values in comparison.rows
        ]
        columns = ("model", "published by", *comparison.benchmarks)
        blocks.append(table(f"Published {peers.METRICS[comparison.metric]}", columns, [ours, *theirs]))
    if not blocks:
        return []
    by_source = {score["source"]: score for score in report["peers"]}
    origins = [
        Markup("{}, run by {}{}").format(
            link(score["url"], source),
            score["run_by"],
            "; transcribed at second hand" if score["evidence"] != "primary" else "",
        )
        for source, score in sorted(by_source.items())
    ]
    text = (
        "These numbers were not measured here. Their authors chose prompts, thresholds and sometimes rows of their "
        "own, so that differences of a few points say little. Sets without safe rows are published as an F1 whose "
        "precision is 1; the first line does the same."
    )
    return [paragraph(text), *blocks, Markup("<h3>Sources</h3>"), bullets(origins)]


def _refusals(results: Results) -> list[Markup]:
    rows = [
        (
            name,
            refusal["rows"],
            refusal["refusals"],
            refusal["scored"] or "not scored",
            *(decimal(refusal[key]) for key in ("f1", "auprc", "auroc")),
        )
        for name, result in results.items()
        if (refusal := result["refusal"])
    ]
    columns = ("set", "rows", "refusals", "scored", "F1", "AUPRC", "AUROC")
    return [table("Whether an answer refuses; a guard without p_refusal is not scored", columns, rows)] if rows else []


def _attacks(attacks: AttackTable) -> Markup:
    rows = [(name, *(_number(value) for value in values)) for name, values in attacks.rows]
    return table("Attacks on the guard", ("attack", *attacks.columns), rows)


def _number(value: float | None) -> object:
    return value if isinstance(value, int) else decimal(value)


def _mistakes(sets: Mapping[str, EvaluatedSuite], show_text: bool) -> list[Markup]:
    blocks: list[Markup] = []
    kinds: tuple[tuple[Label, str], ...] = (("safe", "False alarms"), ("unsafe", "Misses"))
    columns = ["row", "p(unsafe)", "threshold", "first code", "judged", "characters"]
    if show_text:
        columns.append("text")
    for name, evaluated in sets.items():
        for label, title in kinds:
            worst = mistakes.worst_mistakes(evaluated.suite.cases, evaluated.verdicts, label)
            if worst:
                rows = [_mistake(mistake, show_text) for mistake in worst]
                blocks.append(table(f"{title} of {name}, the most confident first", columns, rows))
    return blocks


def _mistake(mistake: Mistake, show_text: bool) -> tuple[object, ...]:
    columns = (
        mistake.id,
        decimal(mistake.p),
        decimal(mistake.threshold),
        mistake.first,
        mistake.conversation.target.value,
        mistake.characters,
    )
    if not show_text:
        return columns
    turn = Markup("<p><strong>{}</strong>: {}</p>")
    turns = Markup().join(turn.format(message.role, message.content) for message in mistake.conversation.messages)
    return (*columns, Markup("<details><summary>Show the text</summary>{}</details>").format(turns))


def _sets(results: Results) -> list[Markup]:
    rows = [
        (
            name,
            Markup("{}{}").format(
                link(result["upstream"], result["title"]), f" ({result['licence']})" if result["licence"] else ""
            ),
            result["rows"],
            result["left_out"],
            result["incomplete"],
            code(result["digest"][:16]),
        )
        for name, result in results.items()
    ]
    cautions = [
        Markup("{}: {}").format(_STRONG.format(name), result["cautions"])
        for name, result in results.items()
        if result["cautions"]
    ]
    columns = ("set", "title", "rows", "left out", "incomplete", "sha256")
    return [table("Sets", columns, rows), *([bullets(cautions)] if cautions else [])]
