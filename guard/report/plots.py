"""Bars, grids, histograms and dumbbells as inline SVG, for data cards and evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from guard.errors import need
from guard.report.svg import GREY, INK, SAFE, grid, palette, short, svg, thousands

_BLUE = (0.12, 0.37, 0.71)


def bars(
    name: str,
    alt: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[float]],
    unit: str,
    notes: Sequence[str] = (),
) -> Markup:
    """Horizontal bars, one per row, stacked by series; `notes` are written at their right ends."""

    def draw(axes: Any) -> None:
        places, left = np.arange(len(rows)), np.zeros(len(rows))
        for (title, values), colour in zip(series.items(), palette(series), strict=True):
            axes.barh(places, values, 0.72, left=left, color=colour, label=short(title))
            left += values
        for place, end, note in zip(places, left, notes, strict=False):
            axes.annotate(
                note, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8, in_layout=False
            )
        axes.set_yticks(places, list(map(short, rows)))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, max(left, default=1.0) * (1.12 if notes else 1.0) or 1.0)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter(thousands)
        grid(axes, "x")
        if len(series) > 1:
            columns = min(len(series), 5)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=1, columnspacing=1.5)

    legend_rows = -(-len(series) // 5) if len(series) > 1 else 0
    return svg(name, alt, (9.4, 0.75 + 0.22 * len(rows) + 0.2 * legend_rows), draw)


def heat(name: str, alt: str, rows: Sequence[str], columns: Sequence[str], counts: Any) -> Markup:
    """A heat map of counts on a logarithmic colour scale."""

    def draw(axes: Any) -> None:
        depth = np.log10(np.maximum(counts, 1)) / max(np.log10(counts.max(initial=10)), 1)
        alpha = np.where(counts > 0, 0.07 + 0.93 * depth, 0)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                shade = float(alpha[row, column])
                axes.add_patch(_rectangle(column, row, (*_BLUE, shade)))
                axes.text(
                    column,
                    row,
                    _compact(int(count)),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="#ffffff" if shade > 0.78 else INK,
                    in_layout=False,
                )
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = list(map(short, columns))
        axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names), default=0) < 9 else 40)
        axes.set_yticks(range(len(rows)), list(map(short, rows)))
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return svg(name, alt, (max(9.4, 2.2 + 0.42 * len(columns)), 0.6 + 0.235 * len(rows)), draw)


def histograms(
    name: str, alt: str, panels: Mapping[str, Mapping[str, Mapping[int, int]]], unit: str, bins_per_octave: int = 2
) -> Markup:
    """Panels of outlined histograms over logarithmic bins; each panel holds series of rows by value."""
    most = max((value for panel in panels.values() for series in panel.values() for value in series), default=1)
    edges = 2.0 ** (np.arange(0, np.ceil(np.log2(most + 1)) * bins_per_octave + 1) / bins_per_octave)

    def draw(axes: Any) -> None:
        for index, (place, (title, panel)) in enumerate(zip(axes, panels.items(), strict=True)):
            for series, colour in zip(sorted(panel), palette(sorted(panel)), strict=True):
                values = np.fromiter(panel[series], np.float64)
                weights = np.fromiter(panel[series].values(), np.float64)
                heights, _ = np.histogram(np.maximum(values, 1), edges, weights=weights)
                place.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
                place.stairs(heights, edges, color=colour, linewidth=1.4, label=short(series))
            place.set_title(short(title), loc="left")
            place.set_xscale("log")
            place.set_ylim(bottom=0)
            place.set_xlabel(unit)
            place.xaxis.set_major_formatter(thousands)
            place.xaxis.set_minor_formatter("")
            place.yaxis.set_major_formatter(thousands)
            grid(place, "y")
            if index == 0:
                place.set_ylabel("rows")
                place.legend(loc="upper left", handlelength=1)

    return svg(name, alt, (9.4, 2.9), draw, panels=len(panels))


def columns(name: str, alt: str, values: Mapping[str, int], unit: str, height_unit: str) -> Markup:
    """Vertical bars with their numbers, on a logarithmic scale."""

    def draw(axes: Any) -> None:
        axes.bar(range(len(values)), list(values.values()), 0.72, color=SAFE)
        for place, count in enumerate(values.values()):
            axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=8, in_layout=False)
        axes.set_xticks(range(len(values)), list(values))
        axes.set_yscale("log")
        axes.set_ylim(0.7, max(values.values(), default=1) * 3)
        axes.set_xlabel(unit)
        axes.set_ylabel(height_unit)
        axes.yaxis.set_major_formatter(thousands)
        axes.yaxis.set_minor_formatter("")
        grid(axes, "y")

    return svg(name, alt, (9.4, 2.9), draw)


def dumbbells(
    name: str, alt: str, rows: Sequence[str], ends: Mapping[str, Sequence[float]], unit: str, marks: Mapping[str, float]
) -> Markup:
    """Two dots per row, one of each of two series, joined by a line; `marks` are named lines across all rows."""

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))
        (first, starts), (second, stops) = ends.items()
        axes.hlines(places, starts, stops, color=GREY, linewidth=2, alpha=0.6)
        axes.scatter(starts, places, s=34, color=GREY, label=short(first), zorder=3)
        axes.scatter(stops, places, s=34, color=SAFE, label=short(second), zorder=3)
        for title, value in marks.items():
            axes.axvline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(
                title, (value, -0.75), (4, 0), textcoords="offset points", va="center", fontsize=8, in_layout=False
            )
        axes.set_yticks(places, list(map(short, rows)))
        axes.set_ylim(len(rows) - 0.4, -1.1)
        axes.set_xlim(min([0.48, *starts, *stops]) - 0.01, 1.01)
        axes.set_xlabel(unit)
        grid(axes, "x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1)

    return svg(name, alt, (9.4, 1.2 + 0.24 * len(rows)), draw)


def _rectangle(x: float, y: float, colour: tuple[float, ...]) -> Any:
    return need("matplotlib.patches", "data").Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0)


def _compact(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"
