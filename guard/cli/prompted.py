"""`guard eval prompted`: a base model that is asked to judge without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from guard.cli import report_file
from guard.cli.export import Detail


def prompted(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A chat model: a folder, a .gguf file, or a hub name.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A `guard data build` folder, or labelled rows.")],
    shots: Annotated[
        int, typer.Option(min=0, max=32, help="Labelled examples before each text, from the train split.")
    ] = 0,
    policy: Annotated[str, typer.Option(metavar="NAME|FILE", help="The policy to judge by.")] = "mlcommons",
    detail: Annotated[Detail, typer.Option(help="How much of each category the prompt has.")] = Detail.names,
    split: Annotated[str, typer.Option(help="The split to judge.")] = "dev",
    rows: Annotated[int, typer.Option(min=2, help="Rows to sample.")] = 150,
    max_tokens: Annotated[int, typer.Option(min=256, help="Tokens of a window, with policy and examples.")] = 2048,
    seed: Annotated[int, typer.Option(help="Seed of the sample of rows and examples.")] = 7,
    out: Annotated[Path | None, typer.Option(metavar="REPORT.json", help="Write the numbers to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Evaluate an untrained chat model as a guard, prompted in its own chat template.

    Reports AUPRC and AUROC, the probability on `safe` and `unsafe` together, how far verdicts move when a text is
    scored again and when the question is worded differently, and the time of a text.

    Example: guard eval prompted models/base data/default --shots 4
    """
    from guard import policy as policies
    from guard.errors import need

    need("torch", "train")
    report_file.check(out)
    from guard.data.dataset.examples import load_examples
    from guard.evaluate.prompted import Asked, measure, sample
    from guard.train.causal.shots import choose_shots

    asked = Asked(policies.load(policy), detail.value, max_tokens)
    chosen = choose_shots(load_examples(data, "train", asked.policy), shots, asked.policy, seed) if shots else ()
    judged = sample(load_examples(data, split, asked.policy), rows, seed)
    measured = measure(base, judged, asked, chosen)
    text = json.dumps(measured, indent=2, ensure_ascii=False)
    if out is not None:
        report_file.write(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(measured)


def _print(measured: dict[str, Any]) -> None:
    from guard.report.tables import show, table

    mass, spread = measured["label_mass"], measured["paraphrase_spread"]
    typer.echo(
        f"{measured['rows']} rows ({measured['unsafe']} unsafe), policy {measured['policy']} ({measured['detail']}), "
        f"{measured['shots']} examples; {measured['prefix_tokens']} tokens before a text"
    )
    lines = [(key, f"{measured[key]:.3f}") for key in measured if key.startswith(("auprc", "auroc"))]
    lines += [
        ("label mass, mean / least", f"{mass['mean']:.3f} / {mass['least']:.3f}"),
        ("repeat spread, largest", f"{measured['repeat_spread']:.1e}"),
        ("paraphrase spread of p, mean / largest", f"{spread['mean']:.3f} / {spread['most']:.3f}"),
        ("ms a text, CPU ms of all cores", f"{measured['ms_per_text']:.0f}, {measured['cpu_ms_per_text']:.0f}"),
    ]
    show(table("measure", "value", rows=lines))
    wordings = [
        (each["question"], f"{each['auprc']:.3f}", f"{each['auroc']:.3f}", f"{each['label_mass']:.3f}")
        for each in measured["wordings"]
    ]
    show(table("question", "AUPRC", "AUROC", "label mass", rows=wordings))
