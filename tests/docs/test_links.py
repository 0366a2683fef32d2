"""Every relative link of every page leads to a file that exists, and to a heading that it has."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.markdown import ROOT, anchors, links, name, pages


@pytest.mark.parametrize("page", pages(), ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_relative_to(ROOT) or not target.exists():
            broken.append(f"{link}: there is no such file")
        elif parts.fragment and (target.suffix != ".md" or parts.fragment not in anchors(target)):
            broken.append(f"{link}: there is no such heading")
    assert not broken, f"{name(page)}: {broken}"


def test_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c!\n\n# A b c\n\n[x](other.md#y) ![z](z.png) `[no](no.md)`\n", encoding="utf-8")
    assert links(page) == ["other.md#y", "z.png"]
    assert anchors(page) == {"a-b-c", "a-b-c-1"}
