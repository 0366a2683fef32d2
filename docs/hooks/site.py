"""What MkDocs needs beyond mkdocs.yml: patterns in the navigation, and links to files outside docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]+)\]\((?P<target>\.\.?/[^)\s#]+)(?P<fragment>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Replaces patterns in the navigation by the pages that match them, `index.md` first."""
    config.nav = _expand(config.nav, Path(config.docs_dir))
    return config


def _expand(entry: Any, docs: Path) -> Any:
    if isinstance(entry, list):
        parts = [_expand(each, docs) for each in entry]
        return [each for part in parts for each in (part if isinstance(part, list) else [part])]
    if isinstance(entry, dict):
        ((title, inner),) = entry.items()
        found = _expand(inner, docs)
        return {title: found} if found else []
    if "*" not in entry:
        return entry
    pages = sorted(docs.glob(entry), key=lambda page: (page.name != "index.md", page.name))
    return [page.relative_to(docs).as_posix() for page in pages]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links to files outside docs/ to the repository, or shows them as text where none is configured."""

    def replaced(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), found["target"]))
        inside = not target.startswith("../")
        if inside and (Path(config.docs_dir) / target).is_file():
            return found[0]
        if not config.repo_url:
            return found["text"]
        path = posixpath.normpath(posixpath.join("docs", target))
        return f"[{found['text']}]({config.repo_url.rstrip('/')}/blob/main/{path}{found['fragment'] or ''})"

    return _LINK.sub(replaced, markdown)
