"""Plots as inline SVG: equal numbers give equal bytes; the colours work on light and on dark pages."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from guard.errors import need

# Blue and vermilion first: they can be told apart with all common kinds of colour blindness.
COLOURS = ("#3d85c6", "#d9662b", "#8d99a6", "#2a9d8f", "#b56bb5", "#c9a227", "#6a5acd", "#7f5539", "#5c8a3a", "#c2546e")
SAFE, UNSAFE, GREY = COLOURS[:3]
INK = "#010203"  # a placeholder for the text colour of the page
GRID = "#808080"
MAX_LABEL = 34  # characters
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_KEPT_STYLES = ("fill", "stroke", "opacity", "font-size", "font-weight", "text-anchor", "white-space")
_STYLE = {
    "svg.fonttype": "none",  # text stays text: searchable, accessible, and in the font of the page
    "text.parse_math": False,  # a dollar in a name is a dollar
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
}


def svg(name: str, alt: str, size: tuple[float, float], draw: Callable[[Any], None], panels: int = 0) -> Markup:
    """The SVG of what `draw` draws on the axes (a list of them if `panels`); its ids begin with `name`."""
    matplotlib = need("matplotlib", "data")
    figures, backend = need("matplotlib.figure", "data"), need("matplotlib.backends.backend_svg", "data")
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Scripts that the measuring font lacks: the reader's fonts will have them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        matplotlib.rcdefaults()  # independent of the settings of this machine
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = figures.Figure(figsize=size, layout="constrained")
        backend.FigureCanvasSVG(figure)
        draw(list(figure.subplots(1, panels, squeeze=False)[0]) if panels else figure.subplots())
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_inline(stream.getvalue(), name, alt))


def palette(series: Iterable[str]) -> list[str]:
    """A colour for each series; safe, unsafe and kept always have the same one."""
    series = list(series)
    fixed = {"safe": SAFE, "unsafe": UNSAFE, "kept": GREY}
    taken = {fixed[title] for title in series if title in fixed}
    free = iter([colour for colour in COLOURS if colour not in taken])
    return [fixed.get(title) or next(free, GREY) for title in series]


def grid(axes: Any, direction: str) -> None:
    """Draw light grid lines in one direction in place of ticks and an axis."""
    axes.grid(axis=direction, color=GRID, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left" if direction == "y" else "bottom"].set_visible(False)
    axes.tick_params(which="both", length=0)


def thousands(value: float, _: int | None = None) -> str:
    """The number with thousands separators: a formatter of axes."""
    return f"{value:,.0f}"


def short(name: str) -> str:
    """A name as a short line of characters that XML can hold."""
    line = "".join(char if char.isprintable() else "\ufffd" for char in name)
    return line if len(line) <= MAX_LABEL else line[: MAX_LABEL - 1] + "…"


def _inline(svg: str, name: str, alt: str) -> str:
    """The drawing for embedding in HTML: no namespaces, metadata or styles of its own, and unique ids."""
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
        value = "; ".join(kept).replace(INK, "currentColor")
    if key == "transform" and value.startswith("rotate(-0"):
        return None
    value = re.sub(r"(url\(#|^#(?=[a-z]))", rf"\g<1>{name}-", value) if key in ("clip-path", "style", "href") else value
    value = _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r" \s+", " ", value).strip() if key == "d" else value
