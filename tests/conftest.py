"""Settings and fixtures of all tests."""

import os
from pathlib import Path

os.environ.pop("COLUMNS", None)  # the workers of pytest-xdist have that of a small terminal

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
