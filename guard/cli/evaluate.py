"""`guard eval`: how good a guard is on public benchmarks, your own rows, or a split of built data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from guard.bundle import Bundle
    from guard.calibration import Mode
    from guard.evaluate.redteam.results import Evasion
    from guard.evaluate.report import Judged
    from guard.evaluate.suite import Suite
    from guard.moderator import Guard


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
        Path | None, typer.Option(metavar="FILE", help="A mapping file: how the rows of FILE are to be read.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="strict|balanced|permissive",
            help="Which thresholds decide; default: balanced, or the server's own.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the report there, too.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="REPORT.html", help="Write a page with plots and the worst mistakes there.")
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Put the texts of the worst mistakes into the page, folded away.")
    ] = False,
    evasion: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What `guard redteam` wrote about this guard, for the page."),
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
            raise InvalidInput(f"{path}: there is no folder {path.absolute().parent}; make it first")
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
            raise InvalidInput(f"--card {card}: is not the model that is evaluated; its card would tell of another one")
        attacks = None if evasion is None else load(evasion, info.model)
        mapping = None if columns is None else load_mapping(columns)
        suites = [benchmarks.load(name, root, info.policy, mapping) for name in names]
        judged = _judge(guard, suites)
    results = [report.measure(done.suite, done.verdicts, info.policy) for done in judged]
    options = {
        "--root": root,
        "--model": model,
        "--server": server,
        "--policy": policy,
        "--columns": columns,
        "--mode": info.mode,
    }
    told = report.report(info, results, _command(names, options))
    if out is not None:
        _write(out, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    if html is not None:
        _write_page(html, told, judged, attacks, show_text)
    if bundle is not None:
        _write_card(bundle, told, names)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print(told)


def _judge(guard: Guard, suites: Sequence[Suite]) -> list[Judged]:
    """The verdicts of every set, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from guard.evaluate import report

    console = Console(stderr=True)
    judged = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for suite in suites:
            task = progress.add_task(suite.title, total=len(suite.cases))
            verdicts = report.judge(guard, suite.cases, partial(progress.advance, task))
            judged.append(report.Judged(suite, tuple(verdicts)))
    return judged


def _command(names: Sequence[str], options: Mapping[str, object]) -> str:
    """The command line that gives the same numbers again."""
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return shlex.join(["guard", "eval", *names, *given])


def _write_page(
    path: Path, told: dict[str, Any], judged: Sequence[Judged], attacks: Evasion | None, show_text: bool
) -> None:
    from guard.evaluate.page import evaluation_page

    _write(path, evaluation_page(told, judged, attacks, show_text))


def _write_card(bundle: Bundle, told: dict[str, Any], names: Sequence[str]) -> None:
    from guard.evaluate.benchmarks import data_folders
    from guard.evaluate.card import model_card, training_manifest

    manifest = training_manifest(bundle, data_folders(names))
    _write(bundle.path("README.md"), model_card(bundle, [told], manifest))


def _write(path: Path, text: str) -> None:
    from guard.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(f"{path}: cannot be written: {problem.strerror}") from None


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console

    from guard.evaluate import report

    console = Console()
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no edge
    policy = told["policy"]
    console.print(
        f"model {told['model'][:12]} ({told['kind']}), policy {policy['id']} {policy['version']}, mode {told['mode']}, "
        f"unsafe from p = {report.figure(told['thresholds']['prompt']['unsafe'])} (prompts), "
        f"{report.figure(told['thresholds']['response']['unsafe'])} (responses)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for table in report.tables(told):
        console.print(table)
    for result in told["results"]:
        if result["incomplete"]:
            console.print(f"{result['name']}: {result['incomplete']} rows could not be read whole", markup=False)
        if result["left_out"]:
            console.print(
                f"{result['name']}: {result['left_out']} records are no cases by its convention", markup=False
            )
        if result["cautions"]:
            console.print(f"{result['name']}: {result['cautions']}", markup=False, highlight=False, soft_wrap=True)
        if (refusal := result["refusal"]) and not refusal["scored"]:
            console.print(f"{result['name']}: refusal not scored, this guard gives no p_refusal", markup=False)
