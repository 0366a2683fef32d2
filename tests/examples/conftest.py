"""Examples run as their users run them: in a process of their own, before a real `guard serve` and a scripted model.

Packages that are no part of the extra `dev` (LiteLLM, NeMo Guardrails, …) may be in another environment, because their
pins do not fit ours: GUARD_CLIENTS_PYTHON lists their Pythons as PATH does, and `just clients` makes them. Where a
package is in none of them, the tests of its examples are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.fixtures import upstream as upstreams
from tests.fixtures.served import Process, started
from tests.fixtures.upstream import Upstream

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PYTHONS = (sys.executable, *filter(None, os.environ.get("GUARD_CLIENTS_PYTHON", "").split(os.pathsep)))


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with started(tmp_path_factory.mktemp("examples") / "stderr", "--rest-port", "0") as process:
        yield process


@pytest.fixture(scope="package")
def running() -> Iterator[Upstream]:
    with upstreams.upstream() as running:
        yield running


@pytest.fixture
def upstream(running: Upstream) -> Upstream:
    running.bodies.clear()
    return running


@cache
def python_with(*modules: str) -> str:
    """A Python that can import all of these; the test is skipped where there is none."""
    look = "import importlib.util, sys; sys.exit(None in map(importlib.util.find_spec, sys.argv[1:]))"
    for python in PYTHONS:
        if subprocess.run([python, "-c", look, *modules], env=environment(), capture_output=True).returncode == 0:
            return python
    pytest.skip(f"needs {', '.join(modules)}: `just clients`, then set GUARD_CLIENTS_PYTHON")


def environment(**more: str | None) -> dict[str, str]:
    """That of an example: guard of this checkout, no proxies, nothing that calls home. None: without the variable."""
    quiet = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1,localhost"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    given = {**os.environ, **quiet, "PYTHONPATH": path, "GUARD_MODEL": "fake", "OPENAI_API_KEY": "sk", **more}
    return {name: value for name, value in given.items() if value is not None}


def run(example: str, *arguments: str, python: str = sys.executable, **variables: str | None) -> list[str]:
    """The lines that an example prints; it must end well."""
    command = [python, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()
