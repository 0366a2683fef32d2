from pathlib import Path

import pytest

from tests.fixtures import made_up_garden


@pytest.fixture
def world(tmp_path: Path) -> made_up_garden.World:
    """A made-up data set and its configuration, in a folder of its own."""
    return made_up_garden.make(tmp_path)
