"""`guard eval`: how good a guard is on public benchmarks, your own rows, or a split of built data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from guard.bundle import Bundle
    from guard.calibration import Mode
    from guard.evaluate.redteam.results import AttackTable
    from guard.evaluate.report import EvaluatedSuite
    from guard.evaluate.suite import Suite
    from guard.moderator import Guard

WIDTH = 160  # of tables in a file or a pipe


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...",
            help="A public benchmark (xstest, toxicchat, beavertails, wildguardtest_prompt …; a wrong name lists them "
            "all); FILE; data:FOLDER:SPLIT.",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder that holds the benchmarks: their files, and hub/NAME."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="A bundle folder; default: the one shipped.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running `guard serve` to evaluate instead.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Default: the bundle's or the server's own.")
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping file: the columns of FILE and their meaning.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="strict|balanced|permissive",
            help="Which thresholds decide; default: balanced, or the server's own.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the report to this file.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="REPORT.html", help="Write a page with plots and the worst mistakes.")
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Include the texts of the worst mistakes in the page, folded away.")
    ] = False,
    evasion: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="The report of `guard redteam` on this guard, for the page."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Evaluate this bundle and write its README.md from the results."),
    ] = None,
) -> None:
    """Evaluate a guard on labelled sets.

    Rows of a FILE (.jsonl, .csv, .xlsx, .parquet …): {"prompt": "…", "response": "…" (optional), "label": "unsafe",
    "categories": ["S1"] (optional)}
    """
    from guard.bundle import open_bundle
    from guard.data.sources.user_files import load_mapping
    from guard.errors import InvalidInput, need
    from guard.evaluate import benchmarks, report
    from guard.evaluate.redteam.results import load
    from guard.serve.client import open_guard

    for path in (out, html):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidInput(f"{path}: there is no folder {path.absolute().parent}; create it first")
    if html is None and (show_text or evasion is not None):
        raise InvalidInput("--show-text and --evasion are about the page; name it with --html")
    if html is not None:
        need("matplotlib", "data")  # before the work, not after it
    bundle = None if card is None else open_bundle(card)
    if card is not None and model is None and server is None:
        model = str(card)
    with open_guard(model, server, policy, cast("Mode | None", mode)) as guard:
        info = guard.info
        if bundle is not None and info.model != bundle.manifest.model:
            raise InvalidInput(
                f"--card {card}: is not the model that is evaluated; its card would be about another one"
            )
        attacks = None if evasion is None else load(evasion, info.model)
        mapping = None if columns is None else load_mapping(columns)
        suites = [benchmarks.load(name, root, info.policy, mapping) for name in names]
        evaluated = _moderate(guard, suites)
    results = [report.measure(done.suite, done.verdicts, info.policy) for done in evaluated]
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
        _write(out, json.dumps(measured, indent=2, ensure_ascii=False) + "\n")
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
    """The command line that gives the same numbers again."""
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return shlex.join(["guard", "eval", *names, *given])


def _write_page(
    path: Path,
    result: dict[str, Any],
    evaluated: Sequence[EvaluatedSuite],
    attacks: AttackTable | None,
    show_text: bool,
) -> None:
    from guard.evaluate.page import evaluation_page

    _write(path, evaluation_page(result, evaluated, attacks, show_text))


def _write_card(bundle: Bundle, result: dict[str, Any], names: Sequence[str]) -> None:
    from guard.evaluate.benchmarks import data_folders
    from guard.evaluate.card import model_card, training_manifest

    manifest = training_manifest(bundle, data_folders(names))
    _write(bundle.path("README.md"), model_card(bundle, [result], manifest))


def _write(path: Path, text: str) -> None:
    from guard.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from None


def _print(measured: dict[str, Any]) -> None:
    from rich.console import Console

    from guard.evaluate import report

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    policy, thresholds = measured["policy"], measured["thresholds"]
    typer.echo(
        f"model {measured['model'][:12]} ({measured['kind']}), policy {policy['id']} {policy['version']}, "
        f"mode {measured['mode']}, unsafe from p = {report.decimal(thresholds['prompt']['unsafe'])} (prompts), "
        f"{report.decimal(thresholds['response']['unsafe'])} (responses)"
    )
    for table in report.tables(measured):
        console.print(table)
    for result in measured["results"]:
        name = result["name"]
        if result["incomplete"]:
            typer.echo(f"{name}: coverage of {result['incomplete']} rows is incomplete")
        if result["left_out"]:
            typer.echo(f"{name}: {result['left_out']} records are no cases by its convention")
        if result["cautions"]:
            typer.echo(f"{name}: {result['cautions']}")
        if (refusal := result["refusal"]) and not refusal["scored"]:
            typer.echo(f"{name}: refusal not scored, this guard gives no p_refusal")
