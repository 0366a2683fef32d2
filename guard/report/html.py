"""HTML pages by jinja2: values are escaped unless they are Markup, so that no text of a data set can become markup."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_NUMBER = re.compile(r"[\d.,<\s%]*")  # an empty cell may be in a column of numbers


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page with its anchor; one without blocks is left out."""

    id: str
    title: str
    blocks: Sequence[Markup]


def page(title: str, heading: str, summary: Iterable[Markup], sections: Iterable[Section], footer: Markup) -> str:
    """A complete document that loads nothing, with a table of contents."""
    shown = [section for section in sections if section.blocks]
    template = _environment(_TEMPLATES).get_template("page.html")
    return template.render(title=title, heading=heading, summary=summary, sections=shown, footer=footer) + "\n"


def template(path: Path) -> Any:
    """The macros of the template at `path` as functions that return Markup."""
    return _environment(path.parent).get_template(path.name).module


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose first column names its rows. Numbers are aligned to the right."""
    return Markup(_blocks().table(caption, columns, [tuple(row) for row in rows]))


def figure(caption: str, svg: Markup, numbers: Markup | None = None) -> Markup:
    """A plot under its caption, and its numbers as a table that can be unfolded."""
    return Markup(_blocks().figure(caption, svg, numbers))


def note(title: str, text: object, alarm: bool = False) -> Markup:
    """A box with a title; an alarm stands out."""
    return Markup(_blocks().note(title, text, alarm))


def bullets(items: Iterable[object]) -> Markup:
    return Markup(_blocks().bullets(items))


def paragraph(text: object) -> Markup:
    return Markup("<p>{}</p>").format(text)


def code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(text)


def link(url: str, text: str) -> Markup:
    """A link, or the text alone if the URL is not one of the web."""
    if not url.startswith(("https://", "http://")):
        return Markup("{}").format(text)
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(url, text)


def share(part: float, whole: float) -> str:
    """A percentage; empty if the whole is 0."""
    if not whole:
        return ""
    percent = 100 * part / whole
    return "<\u00a00.1\u00a0%" if 0 < percent < 0.05 else f"{percent:.1f}\u00a0%"


def _blocks() -> Any:
    return template(_TEMPLATES / "blocks.html")


@functools.cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.globals["numeric_columns"] = _numeric_columns
    environment.tests["numeric"] = _is_numeric
    return environment


def _finalize(value: object) -> object:
    """What a template writes for a value: whole numbers get thousands separators."""
    return f"{value:,}" if isinstance(value, int) else value


def _numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[bool]:
    return [bool(rows) and all(_is_numeric(row[index]) for row in rows) for index in range(len(columns))]


def _is_numeric(cell: object) -> bool:
    return isinstance(cell, int) or (isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None)
