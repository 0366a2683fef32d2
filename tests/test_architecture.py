"""docs/architecture.md lists the modules that there are, and each of them says what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import PAGE, first_line, with_listing
from tests.test_layers import dotted, modules


def test_the_listing_is_that_of_the_modules() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_listing(page), "docs/architecture.md is stale: run `just gen`"


@pytest.mark.parametrize("path", [path for path in modules() if "v1" not in path.parts], ids=dotted)
def test_a_module_says_what_it_holds(path: Path) -> None:
    assert first_line(path)
