"""`guard bench`: how fast a guard is on this machine."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer


def bench(
    model: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="A bundle folder; default: the shipped guard.")
    ] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Default: the bundle's own.")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="May be given again; default: 1, and all cores.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Of each combination of threads, length and batch.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Measure a guard on this machine by threads, length and batch: texts and tokens a second, latency, memory."""
    from guard.bench import BATCHES, LENGTHS
    from guard.bench import bench as measure
    from guard.engines.session import usable_cores
    from guard.report.progress import progress_bar
    from guard.report.tables import number_table, show

    counts = sorted(set(threads or (1, usable_cores())))
    with progress_bar("bench", len(counts) * len(LENGTHS) * len(BATCHES)) as bar:
        found = measure(model, policy, counts, seconds, done=bar.advance)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    columns = ("threads", "tokens", "batch", "texts/s", "tokens/s", "p50 ms", "p99 ms")
    rows = (
        (
            str(each.threads),
            f"{each.tokens:.0f}",
            str(each.batch),
            f"{each.texts_per_s:.1f}",
            f"{each.tokens_per_s:.0f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
        )
        for each in found.speeds
    )
    show(number_table(*columns, rows=rows))
    memory = "" if found.peak_mb is None else f", peak memory {found.peak_mb:.0f} MB"
    typer.echo(f"{found.kind} {found.model[:12]}: first verdict of a new process after {found.start_s:.2f} s{memory}")
    best = found.suggestion
    typer.echo(
        f"for texts of {best.words} words: {best.threads} thread{'s' if best.threads > 1 else ''}, {best.batch} a call "
        f"({best.texts_per_s:.1f} texts/s, p99 {best.p99_ms:.1f} ms)"
    )
