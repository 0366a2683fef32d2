"""Curves of classifiers as inline SVG: operating curves, calibration and metrics by length.

`names` are all sets of the page, in order: a set looks the same in every plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from guard.metrics.classification import Curves, Floats
from guard.report.svg import COLOURS, GRID, grid, short, svg

_RESOLUTION = 400  # consecutive points of a curve in one cell of this grid are drawn once
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


@dataclass(frozen=True, slots=True)
class OperatingCurves:
    """The curves of a set, and the operating point at its thresholds."""

    curves: Curves
    fpr: float
    recall: float
    precision: float | None


def operating_curves(name: str, alt: str, sets: Mapping[str, OperatingCurves], names: Sequence[str]) -> Markup:
    """Precision against recall, and recall against the false-positive rate; dots mark the guard's thresholds."""

    def draw(axes: Any) -> None:
        left, right = axes
        for title, point in sets.items():
            style = _style(names.index(title))
            curves = point.curves
            left.plot(*_thinned(curves.recall, curves.precision), label=_legend(title), **style)
            right.plot(*_thinned(np.append(0.0, curves.fpr), np.append(0.0, curves.recall)), **style)
            if point.precision is not None:
                left.plot([point.recall], [point.precision], "o", color=style["color"], markersize=5)
            right.plot([point.fpr], [point.recall], "o", color=style["color"], markersize=5)
        right.plot([0, 1], [0, 1], color=GRID, linewidth=0.8, linestyle=(0, (2, 3)))
        _unit(left, "recall", "precision")
        _unit(right, "false-positive rate", "recall")
        left.legend(loc="lower left", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 4.2), draw, panels=2)


def reliability(name: str, alt: str, sets: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Markup:
    """The share of unsafe rows against the mean p(unsafe) of each bin; a calibrated guard lies on the diagonal."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=0.8, linestyle=(0, (2, 3)))
        for title, bins in sets.items():
            style = _style(names.index(title))
            means, shares = [part["mean"] for part in bins], [part["unsafe"] for part in bins]
            sizes = 6 + 60 * np.sqrt([part["rows"] / max(sum(one["rows"] for one in bins), 1) for part in bins])
            axes.plot(means, shares, label=_legend(title), **style)
            axes.scatter(means, shares, s=sizes, color=style["color"], linewidths=0)
        _unit(axes, "mean p(unsafe) of the bin", "share that is unsafe")
        axes.legend(loc="upper left", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 4.6), draw)


def by_length(name: str, alt: str, sets: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Markup:
    """Recall, and beside it the false-positive rate, against characters on a doubling scale."""

    def draw(axes: Any) -> None:
        for title, ranges in sets.items():
            style = _style(names.index(title))
            for place, key in zip(axes, ("recall", "fpr"), strict=True):
                points = [(part["high"], part[key]) for part in ranges if part[key] is not None]
                if points:
                    place.plot(*zip(*points, strict=True), marker="o", markersize=3, label=_legend(title), **style)
        longest = max((part["high"] for ranges in sets.values() for part in ranges), default=64)
        for place, title in zip(axes, ("recall", "false-positive rate"), strict=True):
            place.set_xscale("log", base=2)
            place.set_xlim(24, longest * 1.3)
            place.xaxis.set_major_formatter(lambda value, _: f"<{value:,.0f}")
            place.xaxis.set_minor_formatter("")
            place.set_ylim(-0.02, 1.02)
            place.set_xlabel("characters of the judged message")
            place.set_ylabel(title)
            grid(place, "y")
            if place.get_legend_handles_labels()[0]:
                place.legend(loc="best", fontsize=8, handlelength=2.2)

    return svg(name, alt, (9.4, 3.4), draw, panels=2)


def _legend(title: str) -> str:
    """The name for a legend, which matplotlib would hide if it began with an underscore."""
    return short(f"\u200b{title}" if title.startswith("_") else title)


def _style(place: int) -> dict[str, Any]:
    """Colours first, then dashes, so that no two lines of a plot look the same."""
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
    axes.grid(color=GRID, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points without those in the cell of their predecessor; the last one stays."""
    cells = np.stack([np.round(x * _RESOLUTION), np.round(y * _RESOLUTION)])
    kept = np.append(True, (np.diff(cells) != 0).any(axis=0))
    kept[-1] = True
    return x[kept], y[kept]
