"""The reference pages say what the code says."""

from __future__ import annotations

import pytest

from guard.cli import app
from tests.docs.reference import DOCS, PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_page_is_that_of_the_code(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page](), f"docs/{page} is stale: run `just gen`"


def test_every_command_is_there() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert all(f"\n## guard {command.name}\n" in text for command in app.registered_commands)
