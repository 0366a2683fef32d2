"""`guard reward`: train reward models, evaluate them, and score answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli.train import train
from guard.errors import ConfigError

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
        list[str] | None, typer.Option(metavar="MODEL", help="Checkpoints after MODEL, in order; give it for each.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a build.")] = "test",
    repeats: Annotated[int, typer.Option(min=0, help="Ask so often again, without the cache, for stability.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="A file that keeps scores, by fingerprint.")] = None,
    base: Annotated[Path | None, typer.Option(help="Where the base of the models lies now.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as .json or .html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Evaluate a reward model: accuracy, calibration, and what misleads it (length, position)."""
    from guard.jobs.cache import Cache
    from guard.reward.evaluate import report as reports
    from guard.reward.evaluate.results import repeat_spread, run
    from guard.reward.load import load_rows

    if out is not None and out.suffix not in (".json", ".html"):
        raise ConfigError(f"--out {out}: unknown suffix; allowed: .json, .html")
    loaded = load_rows(rows, split)
    kept = None if cache is None else Cache(cache)
    plain = _open(model, base, None)
    scorer = _with(plain, kept)
    results = run(scorer, loaded)
    found: dict[str, Any] = {"model": model, "rows": len(loaded), **reports.report(scorer, results)}
    if repeats:
        pairs = [row for row in loaded if row.chosen is not None]
        spread, flips = repeat_spread(plain, pairs, repeats)
        found["repeats"] = {"times": repeats, "sd": spread, "flips": flips}
    if against is not None:
        other = _open(against, base, kept)
        compared = run(other, loaded)
        found["against"] = {
            "model": against,
            **reports.report(other, compared),
            **reports.against(results.pairs, compared.pairs),
        }
    if track:
        runs = {model: results.pairs} | {name: run(_open(name, base, kept), loaded).pairs for name in track}
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
    cache: Annotated[Path | None, typer.Option(help="A file that keeps scores, by fingerprint.")] = None,
    base: Annotated[Path | None, typer.Option(help="Where the base of the model lies now.")] = None,
) -> None:
    """Score answers: one JSON object a row, in order."""
    from guard.jobs.cache import Cache
    from guard.reward.load import load_rows, require

    loaded = load_rows(rows)
    require(loaded, ("prompt", "response"), "guard reward score")
    scorer = _open(model, base, None if cache is None else Cache(cache))
    references = None if reference is None else [reference] * len(loaded)
    scores = scorer.score_many([(row.prompt, row.response or "") for row in loaded], references)
    for row, each in zip(loaded, scores, strict=True):
        told = {name: getattr(each, name) for name in ("reward", "p", "raw", "mass", "coverage", "rationale")}
        told["attributes"] = dict(each.attributes)
        shown = {name: value for name, value in told.items() if value not in ("", {})}
        typer.echo(json.dumps({"id": row.id, **shown}, ensure_ascii=False))


def _open(name: str, base: Path | None, cache: Cache | None) -> Scorer:
    """The scorer of a name: a folder, or one that needs no training."""
    kind, _, where = name.partition(":")
    if Path(name).is_dir():
        from guard.reward.open import open_scorer

        return _with(open_scorer(name, base), cache)
    if kind == "prompted" and where:
        from guard.reward.open import prompted

        return _with(prompted(where), cache)
    if kind == "guard":
        from guard.reward.baselines import guard_scorer

        return _with(guard_scorer(where or None), cache)
    if name == "length":
        from guard.reward.baselines import length_scorer

        return length_scorer()
    if name == "fake":
        from guard.reward.fake import fake_scorer

        return fake_scorer()
    raise ConfigError(f"no reward model {name[:80]!r}: must be a folder, prompted:BASE, guard, guard:BUNDLE or length")


def _with(scorer: Scorer, cache: Cache | None) -> Scorer:
    from guard.reward.cached import cached

    return cached(scorer, cache)


def _told(found: dict[str, Any], out: Path | None, as_json: bool) -> None:
    from guard.reward.evaluate.page import page, tables

    if out is not None:
        text = page(found) if out.suffix == ".html" else json.dumps(found, indent=2) + "\n"
        out.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found))
        return
    from guard.report.tables import show

    show(*tables(found))
    if out is not None:
        typer.echo(f"wrote {out}")
