"""The report of an evaluation as one HTML page that loads nothing: numbers, plots, published scores, worst mistakes.

It shows no text of any row unless it is asked to; equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guard.conversation import Label
from guard.evaluate import figures, mistakes, peers
from guard.evaluate.figures import Results
from guard.evaluate.mistakes import Mistake
from guard.evaluate.redteam.results import Evasion
from guard.evaluate.report import COLUMNS, Judged, cells, figure, parts
from guard.report.html import Html, bullets, code, element, joined, link, note, page, section, table


def evaluation_page(
    report: Mapping[str, Any], judged: Sequence[Judged], evasion: Evasion | None = None, show_text: bool = False
) -> str:
    """The page. judged: the sets of the report with their verdicts, in its order.

    show_text: whether the texts of the worst mistakes are in the file at all, then folded away.
    """
    names = _distinct([result["name"] for result in report["results"]])
    results = dict(zip(names, report["results"], strict=True))
    sets = dict(zip(names, judged, strict=True))
    sections = {
        "results": ("Results", _overview(results)),
        "published": ("Published scores of other guards", _published(report)),
        "curves": ("Every threshold", figures.curves(results, sets)),
        "calibration": ("Calibration", figures.calibration(results)),
        "categories": ("Categories", figures.categories(results)),
        "lengths": ("Length", figures.lengths(results)),
        "refusals": ("Refusals", _refusals(results)),
        "evasion": ("Attacks", [] if evasion is None else _evasion(evasion)),
        "mistakes": ("Worst mistakes", _mistakes(sets, show_text)),
        "sets": ("Sets and what to know about them", _sets(results)),
    }
    shown = {name: (title, blocks) for name, (title, blocks) in sections.items() if blocks}
    contents = element(
        "ul", *(element("li", element("a", title, href=f"#{name}")) for name, (title, _) in shown.items())
    )
    body = [
        element("header", element("h1", "Evaluation"), *_summary(report, show_text)),
        element("nav", contents, aria_label="Contents"),
        element("main", *(section(name, heading, *blocks) for name, (heading, blocks) in shown.items())),
        element("footer", element("p", "Written by ", code("guard eval"), "; it loads nothing.")),
    ]
    return page(f"Evaluation of {report['model'][:12]}", joined(body, "\n"))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after one that was there before."""
    return [
        f"{name} ({names[:place].count(name) + 1})" if name in names[:place] else name
        for place, name in enumerate(names)
    ]


def _summary(report: Mapping[str, Any], show_text: bool) -> list[Html]:
    policy, cuts = report["policy"], report["thresholds"]
    facts = [
        ("model", joined([report["kind"], ", ", code(report["model"])])),
        ("policy", joined([f"{policy['id']} {policy['version']}, ", code(policy["digest"])])),
        ("mode", report["mode"]),
        ("unsafe from p", ", ".join(f"{figure(cuts[target]['unsafe'])} ({target}s)" for target in cuts)),
        ("command", code(report["command"])),
    ]
    hidden = "This page shows the texts of the worst mistakes, folded away." if show_text else "This page shows none."
    return [
        table("What was measured", ("", ""), facts),
        note(
            "Content", f"Many rows are hateful, sexual or violent, or ask for help with harm. {hidden}", alarm=show_text
        ),
    ]


def _overview(results: Results) -> list[Html]:
    rows: list[tuple[object, ...]] = []
    between: list[tuple[object, ...]] = []
    for name, result in results.items():
        rows.append((element("strong", name), *_blanks(cells(result))))
        rows += [(f"{name}: {part}", *_blanks(cells(numbers))) for part, numbers in parts(result)]
        told = result["intervals"]
        between.append((name, *(_between(told[key]) for key in ("f1", "fpr", "recall", "auprc", "auroc"))))
    return [
        element(
            "p",
            "F1, FPR and recall are at the guard's own thresholds; best F1 and the recall at 1 % false alarms choose "
            "theirs on the set itself. A cell is empty where rows of one class cannot tell.",
        ),
        table("All sets and their parts", ("set", *COLUMNS), rows),
        table("95 % bootstrap intervals", ("set", "F1", "FPR", "recall", "AUPRC", "AUROC"), between),
    ]


def _blanks(told: Iterable[str]) -> list[str]:
    """Numbers without the dashes that stand for none: a column of numbers alone stands to the right."""
    return ["" if number == figure(None) else number for number in told]


def _between(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"{figure(ends[0])}–{figure(ends[1])}"


def _published(report: Mapping[str, Any]) -> list[Html]:
    blocks: list[Html] = []
    for comparison in peers.compare(report):
        ours = (element("strong", "this guard, measured here"), "", *_blanks(map(figure, comparison.ours)))
        theirs = [
            (model, f"{run_by}: {source}", *map(figure, values)) for model, run_by, source, values in comparison.rows
        ]
        columns = ("model", "published by", *comparison.benchmarks)
        blocks.append(table(f"Published {peers.METRICS[comparison.metric]}", columns, [ours, *theirs]))
    if not blocks:
        return []
    told = {score["source"]: score for score in report["peers"]}
    origins = [
        joined(
            [
                link(score["url"], source),
                ", run by ",
                score["run_by"],
                *(["; transcribed at second hand"] if score["evidence"] != "primary" else []),
            ]
        )
        for source, score in sorted(told.items())
    ]
    words = (
        "These numbers were not measured here. Their authors chose prompts, thresholds and sometimes rows of their "
        "own, so that differences of a few points say little. Sets without safe rows are published as an F1 whose "
        "precision is 1; the first line does the same."
    )
    return [element("p", words), *blocks, element("h3", "Sources"), bullets(origins)]


def _refusals(results: Results) -> list[Html]:
    rows = [
        (
            name,
            told["rows"],
            told["refusals"],
            told["scored"] or "not scored",
            *(figure(told[key]) for key in ("f1", "auprc", "auroc")),
        )
        for name, result in results.items()
        if (told := result["refusal"])
    ]
    columns = ("set", "rows", "refusals", "scored", "F1", "AUPRC", "AUROC")
    return [table("Whether an answer refuses; a guard without p_refusal is not scored", columns, rows)] if rows else []


def _evasion(evasion: Evasion) -> list[Html]:
    rows = [(name, *(_number(value) for value in values)) for name, values in evasion.rows]
    return [table("Attacks on the guard", ("attack", *evasion.columns), rows)]


def _number(value: float | None) -> object:
    return value if isinstance(value, int) else figure(value)


def _mistakes(sets: Mapping[str, Judged], show_text: bool) -> list[Html]:
    blocks: list[Html] = []
    kinds: tuple[tuple[Label, str], ...] = (("safe", "False alarms"), ("unsafe", "Misses"))
    for name, judged in sets.items():
        for label, title in kinds:
            wrong = mistakes.worst(judged.suite.cases, judged.verdicts, label)
            if wrong:
                columns = (
                    "row",
                    "p(unsafe)",
                    "threshold",
                    "first code",
                    "judged",
                    "characters",
                    *(["text"] if show_text else []),
                )
                blocks.append(
                    table(f"{title} of {name}, the surest first", columns, [_mistake(one, show_text) for one in wrong])
                )
    return blocks


def _mistake(mistake: Mistake, show_text: bool) -> tuple[object, ...]:
    told = (
        mistake.id,
        figure(mistake.p),
        figure(mistake.threshold),
        mistake.first,
        mistake.conversation.target.value,
        mistake.characters,
    )
    if not show_text:
        return told
    turns = [element("p", element("strong", turn.role), ": ", turn.content) for turn in mistake.conversation.messages]
    return (*told, element("details", element("summary", "Show the text"), *turns))


def _sets(results: Results) -> list[Html]:
    rows = [
        (
            name,
            joined([link(result["upstream"], result["title"]), f" ({result['licence']})" if result["licence"] else ""]),
            result["rows"],
            result["left_out"],
            result["incomplete"],
            code(result["digest"][:16]),
        )
        for name, result in results.items()
    ]
    cautions = [
        joined([element("strong", name), ": ", result["cautions"]])
        for name, result in results.items()
        if result["cautions"]
    ]
    columns = ("set", "title", "rows", "left out", "not read whole", "sha256")
    return [table("Sets", columns, rows), *([bullets(cautions)] if cautions else [])]
