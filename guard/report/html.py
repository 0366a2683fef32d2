"""HTML by functions: what is not `Html` is escaped, so a page cannot hold markup that it was not meant to."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from string import Template

_NUMBER = re.compile(r"[\d.,<\s%]*")  # nothing at all stands with numbers too
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c2127; --soft: #59636e; --paper: #ffffff; --line: #d5dae0; --band: #f4f6f8;
  --link: #1558b0; --alarm: #a3330a; --alarm-band: #fdf1ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b0; --paper: #14171b; --line: #363d45;
  --band: #1c2126; --link: #7fb4f5; --alarm: #f2a27c; --alarm-band: #33211a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p, ul { max-width: 46rem; margin: .5rem 0; }
.lead { color: var(--soft); font-size: 1.1rem; margin: 0 0 1rem; }
a { color: var(--link); }
nav ul { list-style: none; padding: 0; columns: 14rem; max-width: none; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .88em; }
td code { overflow-wrap: anywhere; }
pre { background: var(--band); padding: .75rem 1rem; overflow-x: auto; border-radius: 4px; line-height: 1.4; }
.note { border-left: 4px solid var(--line); background: var(--band); padding: .6rem 1rem; margin: 1rem 0; }
.alarm { border-color: var(--alarm); background: var(--alarm-band); }
.alarm strong { color: var(--alarm); }
.wide { overflow-x: auto; margin: .75rem 0 1rem; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tbody th { font-weight: 400; }
.n { text-align: right; padding-left: .5rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.n { white-space: normal; }
figure { margin: 1rem 0; }
figcaption { color: var(--soft); font-size: .92rem; max-width: 46rem; margin-bottom: .35rem; }
figure svg { display: block; width: 100%; min-width: 36rem; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
details { margin: .25rem 0 1rem; }
summary { cursor: pointer; color: var(--link); font-size: .92rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .88rem; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --band: #f4f4f4; --link: #000;
    --alarm: #7a2500; --alarm-band: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .wide, pre { overflow: visible; white-space: pre-wrap; }
  table { font-size: 7.5pt; }
  figure, tr, .note { break-inside: avoid; }
  h2, h3, figcaption, caption { break-after: avoid; }
  figure svg { min-width: 0; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Html:
    """`value` as markup: Html as it is, numbers with thousands parted, all else escaped."""
    if isinstance(value, Html):
        return value
    return Html(f"{value:,}" if isinstance(value, int) else html.escape(str(value)))


def joined(parts: Iterable[object], between: str = "") -> Html:
    return Html(between.join(text(part) for part in parts))


def element(name: str, *content: object, **attributes: str) -> Html:
    """`<name attributes>content</name>`; of an attribute, _ stands for -, and one at its end for nothing."""
    told = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{told}>{joined(content)}</{name}>")


def code(value: str) -> Html:
    return element("code", value)


def link(address: str, words: str) -> Html:
    """A link, or the words alone where the address is not one of the web."""
    if not address.startswith(("https://", "http://")):
        return text(words)
    return element("a", words, href=address, rel="noreferrer")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table whose first column names its rows. Numbers stand to the right."""
    rows = [tuple(row) for row in rows]
    numeric = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    head = joined(
        element("th", name, scope="col", **({"class_": "n"} if right else {}))
        for name, right in zip(columns, numeric, strict=True)
    )
    lines = []
    for row in rows:
        cells = [element("th", row[0], scope="row")]
        cells += [element("td", value, **({"class_": "n"} if _is_number(value) else {})) for value in row[1:]]
        lines.append(element("tr", joined(cells)))
    heading = element("thead", element("tr", head)) if any(columns) else ""
    made = element("table", element("caption", caption), heading, element("tbody", *lines))
    return element("div", made, class_="wide")


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def share(part: float, whole: float) -> str:
    """A percentage; empty where there is nothing to have a part of."""
    if not whole:
        return ""
    percent = 100 * part / whole
    return "<\u00a00.1\u00a0%" if 0 < percent < 0.05 else f"{percent:.1f}\u00a0%"


def figure(caption: str, svg: str, numbers: Html | None = None) -> Html:
    """A plot under its caption, and its numbers as a table to open."""
    told = element("details", element("summary", "The numbers as a table"), numbers) if numbers else ""
    return element("figure", element("figcaption", caption), element("div", Html(svg), class_="wide"), told)


def note(title: str, words: object, alarm: bool = False) -> Html:
    """A box with a title; an alarm stands out."""
    return element("div", element("strong", title), ". ", words, class_="note alarm" if alarm else "note")


def bullets(items: Iterable[object]) -> Html:
    return element("ul", *(element("li", item) for item in items))


def section(name: str, title: str, *blocks: object) -> Html:
    return element("section", element("h2", title), *blocks, id=name)


def page(title: str, body: Html) -> str:
    """A whole document without anything to load."""
    return _PAGE.substitute(title=text(title), body=body)
