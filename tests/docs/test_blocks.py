"""What the pages show works as it is written.

Every `sh`, `console` and `python` block is run (`tests/docs/session.py`). A comment before a block says otherwise:
`<!-- slow -->` leaves it to the slow tests, and `<!-- not run: WHY -->` to nobody.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Block, blocks, name, pages
from tests.docs.session import Failed, pattern, run

RUN = ("sh", "console", "python")
SHOWN = ("py", "yaml", "json", "text", "toml", "proto", "sql", "javascript", "mermaid", "dockerfile")
# Pages whose blocks are not in the convention yet, or are run by tests/examples.
LATER = re.compile(r"docs/(deploy|capacity|filtering|rewards|integrations/.*)\.md|(deploy|examples)/.*")
FOLLOWING = [page for page in pages() if not LATER.fullmatch(name(page))]


def sessions(slow: bool) -> list[Path]:
    return [page for page in FOLLOWING if any(runs(block) and (block.mark == "slow") == slow for block in blocks(page))]


def runs(block: Block) -> bool:
    return block.language in RUN and block.mark != "not run"


@pytest.mark.parametrize("page", FOLLOWING, ids=name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        at = f"{block.page}:{block.line}"
        assert block.language in RUN + SHOWN, f"{at}: a block is of one of {RUN + SHOWN}, not {block.language!r}"
        assert block.mark != "not run" or block.why, f"{at}: say why: <!-- not run: WHY -->"


@pytest.mark.parametrize("page", sessions(slow=False), ids=name)
def test_what_is_fast(page: Path, tmp_path: Path) -> None:
    run([block for block in blocks(page) if runs(block) and block.mark != "slow"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", sessions(slow=True), ids=name)
def test_the_whole_page(page: Path, tmp_path: Path) -> None:
    run([block for block in blocks(page) if runs(block)], tmp_path)


@pytest.mark.parametrize("page", FOLLOWING, ids=name)
def test_installations_name_extras_that_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = page.read_text(encoding="utf-8")
    for extras in re.findall(r"pip install[^\n`]*\.\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), name(page)


def of(code: str, language: str) -> Block:
    return Block("page.md", 7, language, code, "", "")


@pytest.mark.parametrize(
    ("code", "language", "said"),
    [
        ("true\nfalse\n", "sh", "page.md:7: false"),
        ("raise ValueError\n", "python", "ValueError"),
        ("$ echo one two three\none ... four\n", "console", "page.md:7: echo one two three printed"),
        ("$ echo [ab]\na\n", "console", "printed"),
        ("guard policy show nothing\n", "sh", "page.md:7"),
    ],
)
def test_a_block_that_fails_is_told_with_its_line(code: str, language: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=re.escape(said)):
        run([of(code, language)], tmp_path)


def test_blocks_share_a_folder_and_a_shell(tmp_path: Path) -> None:
    first = of("pip install nothing-of-this-name\nNAME=two\necho one \\\n  >file\n", "sh")
    second = of('$ cat file; echo $NAME "[x] *"\none\n...wo [x] *\n', "console")
    run([first, second, of("assert open('file').read() == 'one\\n'\n", "python")], tmp_path)


def test_patterns_are_themselves_but_for_the_dots() -> None:
    assert pattern("a [b]  \n* c ...\n") == "a [[]b]\n[*] c *"
