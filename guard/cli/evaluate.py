"""`guard eval`: how good a guard is on public benchmarks, your own rows, or a split of built data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import report_file
from guard.cli.options import ModelOption, ModeOption, PolicyOption, ServerOption

if TYPE_CHECKING:
    from guard.bundle import Bundle
    from guard.evaluate.redteam.results import AttackTable
    from guard.evaluate.report import EvaluatedSuite
    from guard.evaluate.suite import Suite
    from guard.moderator import Guard


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...",
            help="A public benchmark (xstest, toxicchat, beavertails, wildguardtest_prompt …; an unknown name lists "
            "them all), a FILE, or data:FOLDER:SPLIT (or SPLIT/en for one language).",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of the benchmarks: their files, and hub/NAME."),
    ] = None,
    model: ModelOption = None,
    server: ServerOption = None,
    policy: PolicyOption = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping file: the columns of FILE and the label values.")
    ] = None,
    mode: ModeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the report to this file.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="REPORT.html", help="Write a page with plots and the worst mistakes.")
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Include the texts of the worst mistakes in the page, collapsed.")
    ] = False,
    evasion: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="A report of `guard redteam` on this guard, to show in the page."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Evaluate this bundle and write its README.md from the results."),
    ] = None,
) -> None:
    """Evaluate a guard on labelled sets.

    Rows of a FILE (.jsonl, .csv, .xlsx, .parquet …): {"prompt": "…", "response": "…" (optional), "label": "unsafe",
    "categories": ["S1"] (optional)}

    Example: guard eval rows.jsonl --model bundles/mine --html report.html
    """
    from guard.bundle import open_bundle
    from guard.data.sources.user_files import load_mapping
    from guard.errors import InvalidInput, need
    from guard.evaluate import benchmarks, report
    from guard.evaluate.redteam.results import load
    from guard.serve.client import open_guard

    report_file.check(out, html)
    if html is None and (show_text or evasion is not None):
        raise InvalidInput("--show-text and --evasion apply to the page; add --html REPORT.html")
    if html is not None:
        need("matplotlib", "data")  # fail before the evaluation, not after it
    bundle = None if card is None else open_bundle(card)
    if card is not None and model is None and server is None:
        model = str(card)
    with open_guard(model, server, policy, mode) as guard:
        info = guard.info
        if bundle is not None and info.model != bundle.manifest.model:
            raise InvalidInput(f"--card {card}: must be the evaluated model (its digest differs)")
        attacks = None if evasion is None else load(evasion, info.model)
        mapping = None if columns is None else load_mapping(columns)
        suites = [benchmarks.load(name, root, info.policy, mapping) for name in names]
        evaluated = _moderate(guard, suites)
    results = [report.measure(each.suite, each.verdicts, info.policy) for each in evaluated]
    options = {
        "--root": root,
        "--model": model,
        "--server": server,
        "--policy": policy,
        "--columns": columns,
        "--mode": info.mode,
    }
    measured = report.build_report(info, results, _command(names, options))
    if out is not None:
        report_file.write(out, json.dumps(measured, indent=2, ensure_ascii=False) + "\n")
    if html is not None:
        _write_page(html, measured, evaluated, attacks, show_text)
    if bundle is not None:
        _write_card(bundle, measured, names)
    if as_json:
        typer.echo(json.dumps(measured, indent=2, ensure_ascii=False))
    else:
        _print(measured)


def _moderate(guard: Guard, suites: Sequence[Suite]) -> list[EvaluatedSuite]:
    """The verdicts of every suite, with a progress bar on a terminal."""
    from guard.evaluate import report
    from guard.report.progress import progress_bar

    evaluated = []
    for suite in suites:
        with progress_bar(suite.title, len(suite.cases)) as bar:
            verdicts = report.moderate_cases(guard, suite.cases, bar.advance)
        evaluated.append(report.EvaluatedSuite(suite, tuple(verdicts)))
    return evaluated


def _command(names: Sequence[str], options: Mapping[str, object]) -> str:
    """The command line that reproduces the results."""
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return shlex.join(["guard", "eval", *names, *words])


def _write_page(
    path: Path,
    result: dict[str, Any],
    evaluated: Sequence[EvaluatedSuite],
    attacks: AttackTable | None,
    show_text: bool,
) -> None:
    from guard.evaluate.page import evaluation_page

    report_file.write(path, evaluation_page(result, evaluated, attacks, show_text))


def _write_card(bundle: Bundle, result: dict[str, Any], names: Sequence[str]) -> None:
    from guard.evaluate.benchmarks import data_folders
    from guard.evaluate.card import model_card, training_manifest

    manifest = training_manifest(bundle, data_folders(names))
    report_file.write(bundle.path("README.md"), model_card(bundle, [result], manifest))


def _print(measured: dict[str, Any]) -> None:
    from guard.evaluate import report
    from guard.report.tables import show

    policy, thresholds = measured["policy"], measured["thresholds"]
    typer.echo(
        f"model {measured['model'][:12]} ({measured['kind']}), policy {policy['id']} {policy['version']}, "
        f"mode {measured['mode']}, unsafe from p = {report.decimal(thresholds['prompt']['unsafe'])} (prompts), "
        f"{report.decimal(thresholds['response']['unsafe'])} (responses)"
    )
    show(*report.tables(measured))
    for result in measured["results"]:
        name = result["name"]
        if result["incomplete"]:
            typer.echo(f"{name}: {result['incomplete']} rows with incomplete coverage")
        if result["left_out"]:
            typer.echo(f"{name}: {result['left_out']} records left out by the convention of this set")
        if result["cautions"]:
            typer.echo(f"{name}: {result['cautions']}")
        if (refusal := result["refusal"]) and not refusal["scored"]:
            typer.echo(f"{name}: refusal not scored: this guard has no p_refusal")
