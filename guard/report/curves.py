"""The plots of an evaluation as inline SVG, drawn like those of a data card: same numbers, same bytes.

`names` are all sets of the page in order: a set looks the same in every plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from guard.metrics.classification import Curves, Floats
from guard.report.plots import COLOURS, legend_name, quiet, svg

_GRID = 400  # points of a curve that fall into one cell of this grid are drawn once
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_DIAGONAL = "#808080"


@dataclass(frozen=True, slots=True)
class Traced:
    """The curves of a set, and where its thresholds lie on them."""

    curves: Curves
    fpr: float
    recall: float
    precision: float | None


def operating_curves(name: str, alt: str, sets: Mapping[str, Traced], names: Sequence[str]) -> str:
    """Precision against recall, and recall against the false-positive rate; dots mark the guard's thresholds."""

    def draw(axes: Any) -> None:
        left, right = axes
        for title, traced in sets.items():
            style = _style(names.index(title))
            curves = traced.curves
            left.plot(*_thinned(curves.recall, curves.precision), label=_named(title), **style)
            right.plot(*_thinned(np.append(0.0, curves.fpr), np.append(0.0, curves.recall)), **style)
            if traced.precision is not None:
                left.plot([traced.recall], [traced.precision], "o", color=style["color"], markersize=5)
            right.plot([traced.fpr], [traced.recall], "o", color=style["color"], markersize=5)
        right.plot([0, 1], [0, 1], color=_DIAGONAL, linewidth=0.8, linestyle=(0, (2, 3)))
        _unit(left, "recall", "precision")
        _unit(right, "false-positive rate", "recall")
        left.legend(loc="lower left", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 4.2), draw, panels=2)


def reliability(name: str, alt: str, sets: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    """The share of unsafe rows against the mean p(unsafe) of each bin; a calibrated guard lies on the diagonal."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_DIAGONAL, linewidth=0.8, linestyle=(0, (2, 3)))
        for title, bins in sets.items():
            style = _style(names.index(title))
            means, shares = [part["mean"] for part in bins], [part["unsafe"] for part in bins]
            sizes = 6 + 60 * np.sqrt([part["rows"] / max(sum(one["rows"] for one in bins), 1) for part in bins])
            axes.plot(means, shares, label=_named(title), **style)
            axes.scatter(means, shares, s=sizes, color=style["color"], linewidths=0)
        _unit(axes, "mean p(unsafe) of the bin", "share that is unsafe")
        axes.legend(loc="upper left", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 4.6), draw)


def by_length(name: str, alt: str, sets: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    """Recall, and beside it the false-positive rate, against characters on a doubling scale."""

    def draw(axes: Any) -> None:
        for title, ranges in sets.items():
            style = _style(names.index(title))
            for place, key in zip(axes, ("recall", "fpr"), strict=True):
                told = [(part["high"], part[key]) for part in ranges if part[key] is not None]
                if told:
                    place.plot(*zip(*told, strict=True), marker="o", markersize=3, label=_named(title), **style)
        longest = max((part["high"] for ranges in sets.values() for part in ranges), default=64)
        for place, title in zip(axes, ("recall", "false-positive rate"), strict=True):
            place.set_xscale("log", base=2)
            place.set_xlim(24, longest * 1.3)
            place.xaxis.set_major_formatter(lambda value, _: f"<{value:,.0f}")
            place.xaxis.set_minor_formatter("")
            place.set_ylim(-0.02, 1.02)
            place.set_xlabel("characters of the judged message")
            place.set_ylabel(title)
            quiet(place, "y")
            if place.get_legend_handles_labels()[0]:
                place.legend(loc="best", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 3.4), draw, panels=2)


def _named(title: str) -> str:
    """The name in a legend, which would leave out one that begins with an underscore."""
    return legend_name(f"\u200b{title}" if title.startswith("_") else title)


def _style(place: int) -> dict[str, Any]:
    """Colours first, then dashes, so that no two lines of a plot look alike."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
        "linewidth": 1.4,
    }


def _unit(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#808080", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points without those that fall where the one before them fell; the last one stays."""
    cells = np.stack([np.round(x * _GRID), np.round(y * _GRID)])
    kept = np.append(True, (np.diff(cells) != 0).any(axis=0))
    kept[-1] = True
    return x[kept], y[kept]
