"""The module listing of docs/architecture.md, made from docstrings: `python -m tests.architecture` writes it anew.

Rooms stand in the order of the layers, so that a line imports only from lines above it.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.test_layers import PACKAGE, RANKS, dotted, modules

PAGE = PACKAGE.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- modules -->\n", "<!-- /modules -->\n"


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, which may go over several lines."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def rank(path: Path) -> tuple[int, str]:
    """Where a module stands: by its layer, then by its name, a package before what lies in it."""
    name = dotted(path)
    layer = max((part for part in RANKS if name == part or name.startswith(f"{part}.")), key=len, default="")
    return RANKS.get(layer, -1), name


def listing() -> str:
    """A table row for each module; a package's own row is its heading."""
    rows = ["| module | what it holds |", "|---|---|"]
    for path in sorted(modules(), key=rank):
        name = dotted(path)
        package = path.name == "__init__.py"
        shown = f"**`{name or 'guard'}/`**" if package else f"`{name}`"
        rows.append(f"| {shown} | {first_line(path)} |")
    return "\n".join(rows) + "\n"


def with_listing(page: str) -> str:
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}{listing()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_listing(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
