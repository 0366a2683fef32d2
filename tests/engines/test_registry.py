"""The registry of engine kinds."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from guard.engines.registry import KINDS
from guard.engines.session import usable_cores
from tests.fixtures import tiny_guard

NO_AFFINITY = f"""
import os
os.__dict__.pop("sched_getaffinity", None)
import guard
print(guard.open_moderator({str(tiny_guard.BUNDLE)!r}).check("hello").outcome.name)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_openers(kind: str) -> None:
    module = importlib.import_module(KINDS[kind].module)
    assert callable(getattr(module, KINDS[kind].engine))
    assert callable(getattr(module, KINDS[kind].renderer))


def test_opening_one_kind_loads_no_other() -> None:
    code = "import sys, guard; guard.open_moderator(threads=1); print('guard.engines.causal_onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_cores_are_counted_where_the_system_has_no_affinity() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    done = subprocess.run([sys.executable, "-c", NO_AFFINITY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SAFE"
