"""No dependency leaves traces in the home folder of whoever runs guard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import tiny_guard

JUDGE = f"import guard; guard.open_moderator({str(tiny_guard.BUNDLE)!r}, threads=1).check('hello')"


@pytest.mark.parametrize("first", ["", "import guard.engines.session; ", "import guard.cli; "])
def test_judging_writes_nothing_into_the_home_folder(tmp_path: Path, first: str) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", first + JUDGE], env={**kept, "HOME": str(tmp_path)}, timeout=120)
    assert done.returncode == 0
    assert not [*tmp_path.iterdir()]
