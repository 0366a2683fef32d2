"""Markdown pages of the repository: their code blocks, headings and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_PARSER = MarkdownIt("commonmark").enable("table")
_COMMENT = re.compile(r"<!--\s*(?P<mark>slow|not run)(?:: (?P<why>.+?))?\s*-->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block. `mark` is that of the comment before it: `slow`, `not run`, or empty; `why` its reason."""

    page: str
    line: int
    language: str
    code: str
    mark: str
    why: str


def pages() -> list[Path]:
    """Every page for readers: those at the root, and those of docs/, deploy/, examples/ and models/."""
    return sorted([*ROOT.glob("*.md"), *(path for top in ("docs", "deploy", "examples") for path in _below(top))])


def _below(top: str) -> Iterator[Path]:
    return (path for path in (ROOT / top).rglob("*.md") if "node_modules" not in path.parts)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    return _PARSER.parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    found, mark = [], None
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip().partition(" ")[0]
            word, why = (mark["mark"], mark["why"] or "") if mark else ("", "")
            found.append(Block(name(page), token.map[0] + 1, language, token.content, word, why))
        mark = _COMMENT.fullmatch(token.content.strip()) if token.type == "html_block" else None
    return found


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    listed = tokens(page)
    for opening, inline in pairwise(listed):
        if opening.type == "heading_open":
            text = "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def links(page: Path) -> list[str]:
    """Where the links and images of a page lead, as written."""
    parts = [part for token in tokens(page) for part in token.children or ()]
    targets = [part.attrGet("href") or part.attrGet("src") for part in parts if part.type in ("link_open", "image")]
    return [str(target) for target in targets if target]
