"""`guard reward`: train reward models, evaluate them, and score answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import report_file
from guard.cli.train import train
from guard.errors import ConfigError
from guard.reward.named import open_named

if TYPE_CHECKING:
    from guard.jobs.cache import Cache
    from guard.reward.scorer import Scorer

app = typer.Typer(no_args_is_help=True)
app.command("train")(train)

_MODEL = "A trained reward model's folder, prompted:BASE, guard or guard:BUNDLE, length, or fake."


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)],
    rows: Annotated[
        Path,
        typer.Argument(metavar="ROWS", help="Pairs or rankings, or a `guard data build` folder.", show_default=False),
    ],
    against: Annotated[str | None, typer.Option(metavar="MODEL", help="Another model, on the same rows.")] = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Later checkpoints than MODEL, in order; repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a build.")] = "test",
    repeats: Annotated[
        int, typer.Option(min=0, help="Score again this many times, each with another seed and without the cache.")
    ] = 0,
    cache: Annotated[Path | None, typer.Option(help="A file that caches scores by the model's fingerprint.")] = None,
    base: Annotated[Path | None, typer.Option(help="The folder of the models' base, if it has moved.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as .json or .html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Evaluate a reward model: accuracy, calibration, and what misleads it (length, position).

    Rows with prompts that one of the models learnt from are left out, and counted.

    Example: guard reward eval runs/reward pairs.jsonl --against length
    """
    from guard.jobs.cache import Cache
    from guard.reward.convert import agreement
    from guard.reward.evaluate import report as reports
    from guard.reward.evaluate.results import repeat_seeds, repeat_spread, run, unseen
    from guard.reward.load import load_rows

    if out is not None and out.suffix not in (".json", ".html"):
        raise ConfigError(f"--out {out}: unknown suffix; allowed: .json, .html")
    report_file.check(out)
    loaded = load_rows(rows, split)
    kept = None if cache is None else Cache(cache)
    scorer = open_named(model, base)
    other = None if against is None else open_named(against, base)
    tracked = {name: open_named(name, base) for name in track or ()}
    measured = unseen(loaded, scorer, *([other] if other else ()), *tracked.values())
    results = run(_with(scorer, kept), measured)
    found: dict[str, Any] = {"model": model, "rows": len(measured), "left_out": len(loaded) - len(measured)}
    found |= reports.report(scorer, results)
    if (both := agreement(measured)) is not None:
        found["people_and_judges"] = dataclasses.asdict(both)
    pairs = [row for row in measured if row.chosen is not None]
    if repeats and pairs:
        seeds = repeat_seeds(repeats)
        spread, flips = repeat_spread(scorer, pairs, seeds)
        found["repeats"] = {"times": repeats, "seeds": seeds, "sd": spread, "flips": flips}
    if other is not None:
        compared = run(_with(other, kept), measured)
        found["against"] = {
            "model": against,
            **reports.report(other, compared),
            **reports.against(results.pairs, compared.pairs),
        }
    if tracked:
        runs = {model: results.pairs}
        runs |= {name: run(_with(each, kept), measured).pairs for name, each in tracked.items()}
        found["track"] = reports.track(runs)
    _told(found, out, as_json)


@app.command("score")
def score(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)],
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS", help="Rows with `prompt` and `response`.", show_default=False)
    ],
    reference: Annotated[
        str | None, typer.Option(help="An answer to beat; systems that only compare need one.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="A file that caches scores by the model's fingerprint.")] = None,
    base: Annotated[Path | None, typer.Option(help="The folder of the model's base, if it has moved.")] = None,
) -> None:
    """Score answers: one JSON object a row, in order.

    Example: guard reward score runs/reward answers.jsonl
    """
    from guard.jobs.cache import Cache
    from guard.reward.load import load_rows, require

    loaded = load_rows(rows)
    require(loaded, ("prompt", "response"), "guard reward score")
    scorer = _with(open_named(model, base), None if cache is None else Cache(cache))
    references = None if reference is None else [reference] * len(loaded)
    scores = scorer.score_many([(row.prompt, row.response or "") for row in loaded], references)
    for row, each in zip(loaded, scores, strict=True):
        told = {name: getattr(each, name) for name in ("reward", "p", "raw", "mass", "coverage", "rationale")}
        told["attributes"] = dict(each.attributes)
        shown = {name: value for name, value in told.items() if value not in ("", {})}
        typer.echo(json.dumps({"id": row.id, **shown}, ensure_ascii=False))


def _with(scorer: Scorer, cache: Cache | None) -> Scorer:
    from guard.reward.cached import cached

    return cached(scorer, cache)


def _told(found: dict[str, Any], out: Path | None, as_json: bool) -> None:
    from guard.reward.evaluate.page import page, tables

    if out is not None:
        text = page(found) if out.suffix == ".html" else json.dumps(found, indent=2) + "\n"
        report_file.write(out, text)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from guard.report.tables import show

    show(*tables(found))
    if out is not None:
        typer.echo(f"wrote {out}")
