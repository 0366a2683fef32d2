"""`guard redteam`: how many of the texts that a guard flags get past it in disguise."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from guard.calibration import Mode
    from guard.evaluate.redteam.attacks import Attack
    from guard.evaluate.redteam.robustness import Setting, Siege
    from guard.evaluate.redteam.sample import Sample
    from guard.moderator import Guard

WIDTH = 160  # of what is written to a file or a pipe, which have no edge


def redteam(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SET]", help="As for `guard eval`, with unsafe and safe rows; default: the shipped seeds."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder that holds the benchmarks.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="A bundle folder; default: the one shipped.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running `guard serve` to attack instead.")
    ] = None,
    versus: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="A second guard, attacked in the same way.")
    ] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Default: each guard's own.")] = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping file: how the rows of a file are to be read.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="strict|balanced|permissive",
            help="The mode whose thresholds are told besides; default: balanced, or the server's own.",
        ),
    ] = None,
    attacks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Attacks or kinds of them, like padding,leet; default: all. Kinds: noise, disguise, whitespace, "
            "paraphrase, template, injection, padding, suffix.",
        ),
    ] = "",
    rows: Annotated[int, typer.Option(min=1, help="Unsafe texts, and as many safe ones, drawn from the set.")] = 200,
    longest: Annotated[int, typer.Option(min=1, help="Characters; longer texts of the set are left out.")] = 4000,
    fpr: Annotated[float, typer.Option(help="The share of undisguised safe texts that may be flagged.")] = 0.05,
    budget: Annotated[int, typer.Option(min=1, help="Queries that the search for a suffix has for each text.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the sample and of all attacks.")] = 0,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the attacked texts that got past the guard, escaped.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the report there, too.")] = None,
) -> None:
    """Attack a guard: the share of the unsafe texts it flags that get past it in disguise, for each attack.

    The threshold is the one that flags a fixed share (--fpr) of the safe texts as they are. What an attack does to
    safe texts is told beside it: a guard that flags everything odd is no better.
    """
    from guard.data.sources.user_files import load_mapping
    from guard.errors import InvalidInput
    from guard.evaluate import benchmarks
    from guard.evaluate.redteam import report as reports
    from guard.evaluate.redteam import sample
    from guard.evaluate.redteam.attacks import choose
    from guard.evaluate.redteam.robustness import Setting
    from guard.serve.client import open_guard

    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidInput(f"{out}: there is no folder {out.absolute().parent}; make it first")
    setting = Setting(fpr, budget, seed)
    chosen = choose([word.strip() for word in attacks.split(",") if word.strip()])
    mapping = None if columns is None else load_mapping(columns)
    with ExitStack() as opened:
        guards = [opened.enter_context(open_guard(model, server, policy, cast("Mode | None", mode)))]
        if versus is not None:
            guards.append(opened.enter_context(open_guard(versus, None, policy, guards[0].info.mode)))
        suite = sample.seeds() if name is None else benchmarks.load(name, root, guards[0].info.policy, mapping)
        drawn = sample.draw(suite, rows, longest, seed)
        sieges = _run(guards, drawn, chosen, setting)
    options = {
        "--root": root,
        "--model": model,
        "--server": server,
        "--versus": versus,
        "--policy": policy,
        "--columns": columns,
        "--mode": sieges[0].info.mode,
        "--attacks": attacks or None,
        "--rows": rows,
        "--longest": longest,
        "--fpr": fpr,
        "--budget": budget,
        "--seed": seed,
    }
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    command = shlex.join(["guard", "redteam", *([] if name is None else [name]), *given])
    told = reports.report(sieges, drawn, setting, command, show_text)
    # Escaped throughout: what got past may hold characters that a terminal would not show, or would obey.
    text = json.dumps(told, indent=2, ensure_ascii=True)
    if out is not None:
        _write(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(told)


def _run(guards: Sequence[Guard], drawn: Sample, attacks: Sequence[Attack], setting: Setting) -> list[Siege]:
    """Every guard under all attacks, with a progress bar on a terminal; then says how fast it was."""
    from rich.console import Console
    from rich.progress import Progress

    from guard.evaluate.redteam import robustness

    console = Console(stderr=True)
    sieges = []
    started = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for number, guard in enumerate(guards, 1):
            task = progress.add_task(f"guard {number}", total=len(attacks))
            sieges.append(
                robustness.run(
                    guard,
                    drawn,
                    attacks,
                    setting,
                    guards[0].info.policy,
                    lambda attack, task=task, number=number: progress.update(  # type: ignore[misc]
                        task, advance=1, description=f"guard {number}: {attack}"
                    ),
                )
            )
    seconds = time.perf_counter() - started
    asked = sum(siege.asked for siege in sieges)
    typer.echo(f"{asked} texts scored in {seconds:.1f} s ({asked / max(seconds, 1e-9):.0f} a second)", err=True)
    return sieges


def _write(path: Path, text: str) -> None:
    from guard.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(f"{path}: cannot be written: {problem.strerror}") from None


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console

    from guard.evaluate.redteam import report as reports
    from guard.evaluate.report import figure

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    texts = told["set"]
    lines = [
        f"{texts['name']}: {texts['unsafe']} unsafe and {texts['safe']} safe texts, {texts['left_out']} rows left out "
        f"as too long; seed {told['seed']}, search budget {told['budget']}"
    ]
    for number, guard in enumerate(told["guards"], 1):
        policy, fixed, mode = guard["policy"], guard["before"]["fixed"], guard["before"]["mode"]
        lines.append(
            f"guard {number}: model {guard['model'][:12]} ({guard['kind']}), policy {policy['id']} {policy['version']}"
            f"; undisguised: recall {figure(fixed['recall'])} at FPR {figure(fixed['fpr'])} (allowed {told['fpr']:g}), "
            f"{guard['mode']}: recall {figure(mode['recall'])}, FPR {figure(mode['fpr'])}"
        )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in reports.tables(told):
        console.print(table)
    for line in reports.shown(told):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
