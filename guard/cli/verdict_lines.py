"""A verdict for people: the outcome first, then each category with its probability and its threshold."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from guard.conversation import Conversation
    from guard.moderator import Guard, GuardInfo
    from guard.policy import Category, Policy
    from guard.verdict import Verdict

Line = Sequence[tuple[str, str]]  # texts and their styles, which a terminal shows
Cuts = Mapping[str, float]  # the threshold of each category

STYLES = {"SAFE": "bold green", "UNSAFE": "bold red", "INCOMPLETE": "bold magenta", "ERROR": "bold magenta"}
BAR = 24  # cells
_FILLED, _EMPTY, _MARK = "█", "░", "│"
_ASCII = str.maketrans({_FILLED: "#", _EMPTY: ".", _MARK: "|"})
_SHOWN = 300  # characters of a text
_UNDONE = {
    "folded": "without look-alike and invisible characters",
    "hidden": "what invisible characters spell",
    "decoded": "decoded, as from Base64, hexadecimal, escapes or ROT13",
    "joined": "with cut and run-together words put right",
    "corrected": "with misspelt words put right",
}


def on_terminal() -> bool:
    """Whether standard output shows colours and bars: not in a pipe, a file, or where TERM=dumb."""
    if os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def show(lines: Iterable[Line]) -> None:
    """Print lines, with their styles on a terminal; NO_COLOR leaves out the colours."""
    if not on_terminal():
        for line in lines:
            typer.echo("".join(text for text, _ in line).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False, force_terminal=True)
    for line in lines:
        shown = Text.assemble(*line)
        shown.rstrip()
        if console.options.ascii_only:
            shown.plain = shown.plain.translate(_ASCII)
        console.print(shown)


def bar(p: float, threshold: float, width: int = BAR) -> tuple[str, str]:
    """A bar of `width` cells, with the mark of the threshold between two of them: what lies before it, and from it on.

    A cell behind the mark is filled if, and only if, p reaches the threshold.
    """
    place = width if threshold > 1 else min(math.floor(threshold * width), width - 1)
    filled = round(p * width)
    filled = max(filled, place + 1) if p >= threshold else min(filled, place)
    cells = _FILLED * filled + _EMPTY * (width - filled)
    return cells[:place], _MARK + cells[place:]


def verdict_lines(
    verdict: Verdict, policy: Policy, info: GuardInfo, strange: Sequence[str], bars: bool
) -> Iterator[Line]:
    """The outcome, what it was decided by, and the categories, the likeliest first.

    strange: the categories for which the guard is not calibrated.
    """
    cuts = info.thresholds[verdict.target][1]
    flagged = ", ".join(f"{code} {policy.category(code).name}" for code in verdict.flagged)
    outcome = verdict.outcome.value
    yield [(outcome, STYLES[outcome]), (f"  {flagged}" if flagged else "", "bold")]
    yield [
        (f"{verdict.target.value}  p(unsafe) {verdict.p_unsafe:.3f}  ", ""),
        (f"{_unsafe_from(verdict.threshold)} (mode {info.mode}, policy {policy.id} {policy.version})", "dim"),
    ]
    if not verdict.coverage.complete:
        read = f"only {verdict.coverage.tokens_seen:,} of {verdict.coverage.tokens_total:,} tokens could be judged"
        yield [(read, "magenta")]
    for each in verdict.unjudged:
        yield [(f"not judged: {each}", "magenta")]
    if verdict.language is not None and not verdict.language.supported:
        reader = _guard_for(verdict.language.code)
        other = f"; --model {reader} was" if reader else ""
        yield [(f"language {verdict.language.code}: the guard was not trained for it{other}", "magenta")]
    if verdict.monitor is not None:
        codes = ", ".join(verdict.monitor.codes)
        yield [(f"watched and not enforced: {codes}; if they were: {verdict.monitor.outcome.value}", "dim")]
    yield from uncalibrated_lines(strange, policy)
    yield []
    yield from _category_lines(verdict, policy, cuts, bars)


def _category_lines(verdict: Verdict, policy: Policy, cuts: Cuts, bars: bool) -> Iterator[Line]:
    from rich.cells import cell_len

    rows = [("", "any category", verdict.p_unsafe, verdict.threshold)]
    likeliest = sorted(verdict.categories.items(), key=lambda item: -item[1])
    rows += [(code, policy.category(code).name, p, cuts[code]) for code, p in likeliest]
    codes = max(len(code) for code, *_ in rows)
    names = max(cell_len(name) for _, name, *_ in rows)
    for code, name, p, threshold in rows:
        hit = code in verdict.flagged or (not code and p >= threshold)
        style = "red" if hit else "yellow" if p >= threshold else ""
        yield [
            (f"  {code:<{codes}} {name}{' ' * (names - cell_len(name))}  ", "bold" if hit else ""),
            *(zip(bar(p, threshold), (style or "cyan", style or "dim"), strict=True) if bars else ()),
            (f"  {p:.3f}", style),
            ("  never" if threshold > 1 else f"  from {threshold:.3f}", "dim"),
            ("  flagged" if code in verdict.flagged else "", "red"),
        ]


def _unsafe_from(value: float) -> str:
    return "never unsafe" if value > 1 else f"unsafe from {value:.3f}"


def uncalibrated_lines(codes: Sequence[str], policy: Policy) -> Iterator[Line]:
    """The warning of a policy for which the guard's probabilities and thresholds are guesses."""
    if not codes:
        return
    part = "" if len(codes) == len(policy.categories) else f" ({', '.join(codes)})"
    yield [(f"NOT CALIBRATED for this policy{part}: p and thresholds are guesses.", "bold black on yellow")]
    advice = (
        "measure it: guard eval ROWS.jsonl --policy FILE; train for it: guard train --policy FILE --data ROWS.jsonl"
    )
    yield [(advice, "yellow")]


def explanation_lines(
    conversation: Conversation, verdict: Verdict, policy: Policy, guard: Guard, calibrated: str
) -> Iterator[Line]:
    """Why a verdict is what it is: what was judged, where the worst window lies and in which view, what is nearest."""
    judged, count, seen = conversation.judged, len(conversation.messages), verdict.coverage
    windows = f"{seen.windows} window{'' if seen.windows == 1 else 's'}"
    yield _labelled("judged", f"{judged.role} message, {count} of {count}, as a {verdict.target.value}")
    yield _labelled("read", f"{seen.tokens_seen:,} of {seen.tokens_total:,} tokens in {windows}, views included")
    place = f"characters {seen.worst_start:,}-{seen.worst_end:,} of {len(judged.content):,}"
    yield _labelled("worst", f"{place}: {_quoted(judged.content[seen.worst_start : seen.worst_end])}")
    yield _labelled("view", _view(judged.content, seen.worst_view, remote=not hasattr(guard, "uncalibrated")))
    yield _labelled("calibrated", calibrated)
    top = max(verdict.flagged or verdict.categories, key=lambda code: verdict.categories[code])
    category = policy.category(top)
    if (line := _nearest(guard, conversation, category)) is not None:
        yield _labelled("nearest", f"{top} {category.name}: “{line}”")
    for code in verdict.flagged:
        yield []
        yield from definition_lines(policy.category(code))


def definition_lines(category: Category) -> Iterator[Line]:
    """What a category forbids, and what it does not."""
    yield [(f"{category.code} {category.name}", "bold"), (f": {category.definition}", "")]
    for line in category.excludes:
        yield [(f"  not: {line}", "dim")]


def _labelled(label: str, text: str) -> Line:
    return [(f"{label:<12}", "bold"), (text, "")]


def _quoted(text: str) -> str:
    from guard.report.printable import printable

    return f"“{printable(' '.join(text.split()), _SHOWN)}”"


def _view(text: str, place: int | None, remote: bool) -> str:
    """Which form of the text the worst window is of."""
    if remote:
        return "a server does not say which view of the text was the worst"
    from guard.views.escapes import unescaped
    from guard.views.view import views

    plain = unescaped(text)
    if place is None:
        return "the text as it stands" if plain == text else f"without escapes: {_quoted(plain)}"
    view = views(plain)[place]
    return f"{_UNDONE[view.name]}: {_quoted(view.text)}"


def _nearest(guard: Guard, conversation: Conversation, category: Category) -> str | None:
    """The line of a category that is likeliest to be what the text violates; None where the guard cannot tell."""
    import dataclasses

    from guard.errors import GuardError
    from guard.policy import Policy

    lines = (category.definition, *category.includes)
    alone = [
        dataclasses.replace(category, code=f"L{number}", definition=line, includes=(), excludes=(), threshold=None)
        for number, line in enumerate(lines)
    ]
    (answer,) = guard.moderate_each([conversation], Policy("lines", "1", category.name, tuple(alone)))
    if isinstance(answer, GuardError):
        return None
    p = list(answer.categories.values())
    return lines[p.index(max(p))]


def _guard_for(language: str) -> str | None:
    """The name of a guard here that states this language (ISO 639-1)."""
    from guard.assets import bundle_folders
    from guard.bundle import MANIFEST, read_manifest

    for path in (path for folder in bundle_folders() for path in sorted(folder.glob(f"*/{MANIFEST}"))):
        if any(tag.partition("-")[0].lower() == language for tag in read_manifest(path).languages):
            return path.parent.name
    return None
