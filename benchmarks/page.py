"""Puts tables that a benchmark measured into a page, between two marks."""

from __future__ import annotations

from pathlib import Path


def publish(page: Path, name: str, tables: str) -> None:
    """Between `<!-- name -->` and `<!-- /name -->`. ValueError if the page lacks them."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8")
    if start not in text or end not in text:
        raise ValueError(f"{page}: lacks {start} or {end}")
    before, after = text.partition(start)[0], text.partition(end)[2]
    page.write_text(f"{before}{start}\n{tables}\n{end}{after}", encoding="utf-8")
