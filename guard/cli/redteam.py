"""`guard redteam`: how many of the texts that a guard flags evade it under each attack."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import names, report_file
from guard.cli.options import ModelOption, ModeOption, PolicyOption, ServerOption

if TYPE_CHECKING:
    from guard.evaluate.redteam.attack_run import AttackRun, AttackSettings
    from guard.evaluate.redteam.attacks import Attack
    from guard.evaluate.redteam.sample import Sample
    from guard.moderator import Guard
    from guard.report.progress import ProgressBar


def redteam(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SET",
            help="As for `guard eval`, with unsafe and safe rows; default: the shipped seed prompts.",
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of the benchmarks.")] = None,
    model: ModelOption = None,
    server: ServerOption = None,
    versus: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE", help="A second guard, attacked in the same way.", autocompletion=names.bundles),
    ] = None,
    policy: PolicyOption = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping file: the columns and the label values.")
    ] = None,
    mode: ModeOption = None,
    attacks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Attacks, kinds or groups of attacks, like padding,leet,exotic; default: all. Groups: common (noise, "
            "disguise, whitespace), exotic (encoding, lettering, arrangement, packaging) and framing (paraphrase, "
            "template, injection, padding, suffix).",
        ),
    ] = "",
    rows: Annotated[int, typer.Option(min=1, help="Unsafe texts to sample, and as many safe ones.")] = 200,
    longest: Annotated[int, typer.Option(min=1, help="Longer texts are left out, in characters.")] = 4000,
    fpr: Annotated[float, typer.Option(help="The FPR on unmodified safe texts that sets the threshold.")] = 0.05,
    budget: Annotated[int, typer.Option(min=1, help="Queries per text of the suffix search.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of all attacks.")] = 0,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the modified texts that evaded the guard, escaped.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the report to this file.")] = None,
) -> None:
    """Attack a guard: for each attack, the share of the flagged unsafe texts that evade it.

    The threshold is the one that flags a fixed share (--fpr) of the unmodified safe texts. The effect of an attack on
    safe texts is reported as well: a guard that flags everything unusual is no better.

    Example: guard redteam --attacks padding,leet
    """
    from guard.data.sources.user_files import load_mapping
    from guard.evaluate import benchmarks
    from guard.evaluate.redteam import report as reports
    from guard.evaluate.redteam import sample
    from guard.evaluate.redteam.attack_run import AttackSettings
    from guard.evaluate.redteam.attacks import choose
    from guard.serve.client import open_guard

    report_file.check(out)
    settings = AttackSettings(fpr, budget, seed)
    chosen = choose([word.strip() for word in attacks.split(",") if word.strip()])
    mapping = None if columns is None else load_mapping(columns)
    with ExitStack() as opened:
        guards = [opened.enter_context(open_guard(model, server, policy, mode))]
        if versus is not None:
            guards.append(opened.enter_context(open_guard(versus, None, policy, guards[0].info.mode)))
        suite = sample.seed_suite() if name is None else benchmarks.load(name, root, guards[0].info.policy, mapping)
        drawn = sample.draw_sample(suite, rows, longest, seed)
        runs = _run(guards, drawn, chosen, settings)
    options = {
        "--root": root,
        "--model": model,
        "--server": server,
        "--versus": versus,
        "--policy": policy,
        "--columns": columns,
        "--mode": runs[0].info.mode,
        "--attacks": attacks or None,
        "--rows": rows,
        "--longest": longest,
        "--fpr": fpr,
        "--budget": budget,
        "--seed": seed,
    }
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    command = shlex.join(["guard", "redteam", *([] if name is None else [name]), *words])
    report = reports.build_report(runs, drawn, settings, command, show_text)
    # ASCII only: texts that evaded the guard may contain invisible characters and terminal control sequences.
    text = json.dumps(report, indent=2, ensure_ascii=True)
    if out is not None:
        report_file.write(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(report)


def _run(
    guards: Sequence[Guard], drawn: Sample, attacks: Sequence[Attack], settings: AttackSettings
) -> list[AttackRun]:
    """All attacks on every guard, with a progress bar on a terminal; then reports the throughput."""
    from guard.evaluate.redteam.attack_run import run_attacks
    from guard.report.progress import progress_bar

    runs = []
    started = time.perf_counter()
    for number, guard in enumerate(guards, 1):
        with progress_bar(f"guard {number}", len(attacks)) as bar:

            def advance(attack: str, number: int = number, bar: ProgressBar = bar) -> None:
                bar.advance(1, f"guard {number}: {attack}")

            runs.append(run_attacks(guard, drawn, attacks, settings, guards[0].info.policy, advance))
    seconds = time.perf_counter() - started
    scored = sum(run.scored for run in runs)
    typer.echo(f"{scored} texts scored in {seconds:.1f} s ({scored / max(seconds, 1e-9):.0f} per second)", err=True)
    return runs


def _print(report: dict[str, Any]) -> None:
    from guard.evaluate.redteam import report as reports
    from guard.evaluate.report import decimal
    from guard.report.tables import show

    texts = report["set"]
    typer.echo(
        f"{texts['name']}: {texts['unsafe']} unsafe and {texts['safe']} safe texts, {texts['left_out']} rows left out "
        f"as too long; seed {report['seed']}, search budget {report['budget']}"
    )
    for number, guard in enumerate(report["guards"], 1):
        policy, fixed, mode = guard["policy"], guard["before"]["fixed"], guard["before"]["mode"]
        typer.echo(
            f"guard {number}: model {guard['model'][:12]} ({guard['kind']}), policy {policy['id']} {policy['version']}"
            f"; without attack: recall {decimal(fixed['recall'])} at FPR {decimal(fixed['fpr'])} "
            f"(allowed {report['fpr']:g}), {guard['mode']}: recall {decimal(mode['recall'])}, "
            f"FPR {decimal(mode['fpr'])}"
        )
    show(*reports.tables(report))
    for line in reports.evasions(report):
        typer.echo(line)
