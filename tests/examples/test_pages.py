"""docs/integrations: its code is that of the tested examples, its commands run, and nothing is left out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.serve.http.table import REWARD_TRANSLATORS, TRANSLATORS
from tests.examples.conftest import EXAMPLES, ROOT
from tests.fixtures.served import Process

PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
EVERYWHERE = [*PAGES, EXAMPLES / "README.md"]


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL):
        if language in languages:
            yield block


def links(page: Path) -> list[Path]:
    """The files that a page links to."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    return [Path(os.path.normpath(page.parent / target)) for target in targets if "://" not in target]


def named(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", EVERYWHERE, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not link.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_is_that_of_an_example_that_the_page_names(page: Path) -> None:
    examples = [link.read_text() for link in links(page) if link.is_relative_to(EXAMPLES) and link.is_file()]
    languages = {language for language, _ in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)}
    assert languages <= {"python", "yaml", "nginx", "bash", "sh"}
    for block in blocks(page, "python", "yaml", "nginx", "bash"):
        held = any(f"\n{block}" in f"\n{example}" for example in examples)
        assert held, f"in no example that the page links to:\n{block}"


def test_every_page_and_every_example_is_listed() -> None:
    index = ROOT / "docs" / "integrations" / "index.md"
    assert {page for page in PAGES if page != index} <= set(links(index))
    shown = {link for page in EVERYWHERE for link in links(page)}
    folders = {link.parent for link in shown}
    listed = {each for each in EXAMPLES.iterdir() if each in shown or each in folders}
    assert {each.name for each in EXAMPLES.iterdir()} - {each.name for each in listed} <= {"README.md", "__pycache__"}


def test_every_format_has_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    formats = {each.path for each in (*TRANSLATORS, *REWARD_TRANSLATORS)} - {"/v1/check"}  # which is guard's own
    assert {path for path in formats if path not in text} == set()


def test_commands_run(process: Process) -> None:
    asked = 0
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            if line.startswith("curl "):
                command = line.replace("http://127.0.0.1:8080", process.url).replace("localhost:8080", process.url)
                command += " --fail-with-body --noproxy '*' --silent --show-error"
                done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, f"{page.name}: {line}\n{done.stdout}{done.stderr}"
                asked += 1
            else:
                assert shlex.split(line)[:2] in (["guard", "serve"], ["export", "GUARD_URL=http://127.0.0.1:8080"])
    assert asked >= 6
