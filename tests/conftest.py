"""Settings and fixtures of all tests."""

import os
from pathlib import Path

for name in ("COLUMNS", "LINES"):  # the workers of pytest-xdist have those of a small terminal
    os.environ.pop(name, None)

import pytest
from hypothesis import settings

from tests.fixtures import made_up_garden

# A test must not fail because the machine was busy; slow code shows in --durations.
settings.register_profile("guard", deadline=None, max_examples=25)
settings.load_profile("guard")


@pytest.fixture
def world(tmp_path: Path) -> made_up_garden.World:
    """A made-up data set and its configuration, in a folder of its own."""
    return made_up_garden.make(tmp_path)
