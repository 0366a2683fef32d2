"""`guard bench`: how fast a guard is on this machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from guard.cli.options import ModelOption, PolicyOption

if TYPE_CHECKING:
    from guard.bench import Bench, LeftOut, Speed

_COLUMNS = ("threads", "words", "tokens", "batch", "texts/s", "tokens/s", "p50 ms", "p99 ms")
_WIDTH = 10  # of a column: rows are printed as they are measured, before the widest is known


def bench(
    model: ModelOption = None,
    policy: PolicyOption = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="May be given again; default: 1, and all cores.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Of each combination of threads, length and batch.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Measure a guard on this machine by threads, length and batch: texts and tokens a second, latency, memory.

    By default it takes about a minute. Combinations of which a call would take longer than 2 s are left out.

    Example: guard bench --threads 1
    """
    from guard.bench import BATCHES, LENGTHS
    from guard.bench import bench as measure
    from guard.engines.session import usable_cores
    from guard.report.progress import progress_bar

    counts = sorted(set(threads or (1, usable_cores())))
    if not as_json:
        typer.echo(
            f"made-up texts of {_listed(LENGTHS)} words, {_listed(BATCHES)} a call, with {_listed(counts)} "
            f"thread{'s' if counts[-1] > 1 else ''}: about {seconds:g} s each"
        )
        typer.echo(_line(_COLUMNS))
    with progress_bar("bench", len(counts) * len(LENGTHS) * len(BATCHES)) as bar:

        def show(found: Speed | LeftOut) -> None:
            bar.advance()
            if not as_json and (line := _row(found)):
                typer.echo(line)

        found = measure(model, policy, counts, seconds, done=show)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _summarise(found)


def _row(found: Speed | LeftOut) -> str:
    """The line of a speed; empty for what was left out."""
    from guard.bench import LeftOut

    if isinstance(found, LeftOut):
        return ""
    return _line(
        (
            f"{found.threads}",
            f"{found.words}",
            f"{found.tokens:.0f}",
            f"{found.batch}",
            f"{found.texts_per_s:.1f}",
            f"{found.tokens_per_s:.0f}",
            f"{found.p50_ms:.1f}",
            f"{found.p99_ms:.1f}",
        )
    )


def _summarise(found: Bench) -> None:
    typer.echo()
    if found.left_out:
        calls = ", ".join(
            f"{each.batch} of {each.words} words with {each.threads} thread{'s' if each.threads > 1 else ''} "
            f"({each.expected_s:.1f} s)"
            for each in found.left_out
        )
        typer.echo(f"left out, since a call would take long: {calls}")
    memory = "" if found.peak_mb is None else f", peak memory {found.peak_mb:.0f} MB"
    typer.echo(f"{found.kind} {found.model[:12]}: first verdict of a new process after {found.start_s:.2f} s{memory}")
    best = found.suggestion
    typer.echo(
        f"for texts of {best.words} words: {best.threads} thread{'s' if best.threads > 1 else ''}, {best.batch} a call "
        f"({best.texts_per_s:.1f} texts/s, p99 {best.p99_ms:.1f} ms)"
    )


def _line(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{_WIDTH}}" for cell in cells)


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last
