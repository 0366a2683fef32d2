"""The plots of a data card as inline SVG: same numbers, same bytes; colours that hold on light and on dark pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from guard.errors import need

# Blue and vermilion first: they stay apart for all common kinds of colour blindness.
COLOURS = ("#3d85c6", "#d9662b", "#8d99a6", "#2a9d8f", "#b56bb5", "#c9a227", "#6a5acd", "#7f5539", "#5c8a3a", "#c2546e")
SAFE, UNSAFE, QUIET = COLOURS[:3]
LONGEST_LABEL = 34
_INK = "#010203"  # stands for the colour of the page's text
_BLUE = (0.12, 0.37, 0.71)
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_KEPT_STYLES = ("fill", "stroke", "opacity", "font-size", "font-weight", "text-anchor", "white-space")
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and takes the page's font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
}


def bars(
    name: str,
    alt: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[float]],
    unit: str,
    notes: Sequence[str] = (),
) -> str:
    """Lying bars, one a row, stacked by series; `notes` stand at their right ends."""

    def draw(axes: Any) -> None:
        places, left = np.arange(len(rows)), np.zeros(len(rows))
        for (title, values), colour in zip(series.items(), _palette(series), strict=True):
            axes.barh(places, values, 0.72, left=left, color=colour, label=legend_name(title))
            left += values
        for place, end, note in zip(places, left, notes, strict=False):
            axes.annotate(
                note, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8, in_layout=False
            )
        axes.set_yticks(places, list(map(legend_name, rows)))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, max(left, default=1.0) * (1.12 if notes else 1.0) or 1.0)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter(_thousands)
        quiet(axes, "x")
        if len(series) > 1:
            columns = min(len(series), 5)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=1, columnspacing=1.5)

    legend_rows = -(-len(series) // 5) if len(series) > 1 else 0
    return svg(name, alt, (9.4, 0.75 + 0.22 * len(rows) + 0.2 * legend_rows), draw)


def heat(name: str, alt: str, rows: Sequence[str], columns: Sequence[str], counts: Any) -> str:
    """A grid of counts, darker for more; colours step by powers of ten, because counts span several."""

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
                    _short(int(count)),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="#ffffff" if shade > 0.78 else _INK,
                    in_layout=False,
                )
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = list(map(legend_name, columns))
        axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names), default=0) < 9 else 40)
        axes.set_yticks(range(len(rows)), list(map(legend_name, rows)))
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return svg(name, alt, (max(9.4, 2.2 + 0.42 * len(columns)), 0.6 + 0.235 * len(rows)), draw)


def histograms(
    name: str, alt: str, panels: Mapping[str, Mapping[str, Mapping[int, int]]], unit: str, bins_per_octave: int = 2
) -> str:
    """Panels of outlined histograms over logarithmic bins: series (rows by value) of each panel."""
    most = max((value for panel in panels.values() for series in panel.values() for value in series), default=1)
    edges = 2.0 ** (np.arange(0, np.ceil(np.log2(most + 1)) * bins_per_octave + 1) / bins_per_octave)

    def draw(axes: Any) -> None:
        for index, (place, (title, panel)) in enumerate(zip(axes, panels.items(), strict=True)):
            for series, colour in zip(sorted(panel), _palette(sorted(panel)), strict=True):
                values = np.fromiter(panel[series], np.float64)
                weights = np.fromiter(panel[series].values(), np.float64)
                heights, _ = np.histogram(np.maximum(values, 1), edges, weights=weights)
                place.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
                place.stairs(heights, edges, color=colour, linewidth=1.4, label=legend_name(series))
            place.set_title(legend_name(title), loc="left")
            place.set_xscale("log")
            place.set_ylim(bottom=0)
            place.set_xlabel(unit)
            place.xaxis.set_major_formatter(_thousands)
            place.xaxis.set_minor_formatter("")
            place.yaxis.set_major_formatter(_thousands)
            quiet(place, "y")
            if index == 0:
                place.set_ylabel("rows")
                place.legend(loc="upper left", handlelength=1)

    return svg(name, alt, (9.4, 2.9), draw, panels=len(panels))


def columns(name: str, alt: str, values: Mapping[str, int], unit: str, height_unit: str) -> str:
    """Standing bars with their numbers on them, on a logarithmic scale."""

    def draw(axes: Any) -> None:
        axes.bar(range(len(values)), list(values.values()), 0.72, color=SAFE)
        for place, count in enumerate(values.values()):
            axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=8, in_layout=False)
        axes.set_xticks(range(len(values)), list(values))
        axes.set_yscale("log")
        axes.set_ylim(0.7, max(values.values(), default=1) * 3)
        axes.set_xlabel(unit)
        axes.set_ylabel(height_unit)
        axes.yaxis.set_major_formatter(_thousands)
        axes.yaxis.set_minor_formatter("")
        quiet(axes, "y")

    return svg(name, alt, (9.4, 2.9), draw)


def dumbbells(
    name: str, alt: str, rows: Sequence[str], ends: Mapping[str, Sequence[float]], unit: str, marks: Mapping[str, float]
) -> str:
    """Two dots a row, one for each of two series, joined by a line; `marks` are named lines across all rows."""

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))
        (first, starts), (second, stops) = ends.items()
        axes.hlines(places, starts, stops, color=QUIET, linewidth=2, alpha=0.6)
        axes.scatter(starts, places, s=34, color=QUIET, label=legend_name(first), zorder=3)
        axes.scatter(stops, places, s=34, color=SAFE, label=legend_name(second), zorder=3)
        for title, value in marks.items():
            axes.axvline(value, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(
                title, (value, -0.75), (4, 0), textcoords="offset points", va="center", fontsize=8, in_layout=False
            )
        axes.set_yticks(places, list(map(legend_name, rows)))
        axes.set_ylim(len(rows) - 0.4, -1.1)
        axes.set_xlim(min([0.48, *starts, *stops]) - 0.01, 1.01)
        axes.set_xlabel(unit)
        quiet(axes, "x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1)

    return svg(name, alt, (9.4, 1.2 + 0.24 * len(rows)), draw)


def _palette(series: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """A colour for each series: safe and unsafe always have theirs."""
    fixed = {"safe": SAFE, "unsafe": UNSAFE, "kept": QUIET}
    taken = {fixed[title] for title in series if title in fixed}
    free = iter([colour for colour in COLOURS if colour not in taken])
    return [fixed.get(title) or next(free, QUIET) for title in series]


def _rectangle(x: float, y: float, colour: tuple[float, ...]) -> Any:
    return need("matplotlib.patches", "data").Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0)


def quiet(axes: Any, direction: str) -> None:
    axes.grid(axis=direction, color="#808080", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left" if direction == "y" else "bottom"].set_visible(False)
    axes.tick_params(which="both", length=0)


def _thousands(value: float, _: int | None = None) -> str:
    return f"{value:,.0f}"


def _short(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def svg(name: str, alt: str, size: tuple[float, float], draw: Callable[[Any], None], panels: int = 0) -> str:
    """The SVG of what `draw` puts on the axes (a list of them if `panels`); ids begin with `name`."""
    matplotlib = need("matplotlib", "data")
    figures, backend = need("matplotlib.figure", "data"), need("matplotlib.backends.backend_svg", "data")
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Names in scripts that the measuring font lacks: the reader's fonts will have them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        matplotlib.rcdefaults()  # not the settings of whoever makes the card
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = figures.Figure(figsize=size, layout="constrained")
        backend.FigureCanvasSVG(figure)
        draw(list(figure.subplots(1, panels, squeeze=False)[0]) if panels else figure.subplots())
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """The drawing alone, as HTML takes it: no namespaces, no metadata, no style of its own, ids that no other has."""
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r"#([\w.-]+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in list(root.iter()):
        for child in list(node):
            if child.tag.rpartition("}")[2] in ("metadata", "style") or not (child.attrib or len(child)):
                node.remove(child)
        node.tag = node.tag.rpartition("}")[2]
        old = dict(node.attrib)
        node.attrib.clear()
        for key, value in old.items():
            key = key.rpartition("}")[2]
            if key == "id" and value not in used:
                continue
            if (kept := _attribute(key, value, name)) is not None:
                node.set(key, kept)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _attribute(key: str, value: str, name: str) -> str | None:
    if key == "id":
        return f"{name}-{value}"
    if key == "style":
        kept = [part.strip() for part in value.split(";") if part.strip().partition(":")[0].startswith(_KEPT_STYLES)]
        value = "; ".join(kept).replace(_INK, "currentColor")
    if key == "transform" and value.startswith("rotate(-0"):
        return None
    value = re.sub(r"(url\(#|^#(?=[a-z]))", rf"\g<1>{name}-", value) if key in ("clip-path", "style", "href") else value
    value = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r" \s+", " ", value).strip() if key == "d" else value


def legend_name(name: str) -> str:
    """A name as a short line of characters that XML can hold."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"
