"""The site is built without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("repository", ["", "https://example.org/guard"])
def test_the_site_is_built_strictly(repository: str, tmp_path: Path) -> None:
    environment = {**os.environ, "GUARD_REPOSITORY": repository, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "chat" / "index.html").read_text(encoding="utf-8")
    assert ("https://example.org/guard/blob/main/examples/fastapi_chat/main.py" in page) == bool(repository)
