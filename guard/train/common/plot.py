"""The plot of a training run: training loss and dev metrics by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guard.errors import need


def draw_history(history: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes a PNG of the entries with a `step` and a `loss`, `eval_auprc` or `eval_auroc`; replaces `out` at once."""
    figures = need("matplotlib.figure", "train")
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.subplots()
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    steps, losses = _series(history, "loss")
    left.plot(steps, losses, color="tab:blue", linewidth=1, label="training loss")
    right = left.twinx()
    right.set_ylabel("dev rows")
    right.set_ylim(0, 1.02)
    for key, name, colour in (("eval_auprc", "dev AUPRC", "tab:red"), ("eval_auroc", "dev AUROC", "tab:orange")):
        steps, values = _series(history, key)
        if steps:
            right.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1, label=name)
    lines = [*left.get_lines(), *right.get_lines()]
    left.legend(lines, [line.get_label() for line in lines], loc="center right")
    draft = out.with_suffix(".tmp")
    figure.savefig(draft, format="png", dpi=120)
    draft.replace(out)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    points = [(int(entry["step"]), float(entry[key])) for entry in history if key in entry]
    return [step for step, _ in points], [value for _, value in points]
