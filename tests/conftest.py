"""Settings and fixtures of all tests."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler.loadscope import LoadScopeScheduling

from guard import open_moderator
from guard.moderator import Moderator
from tests.fixtures import made_up_garden

# Else each of the hundred Pythons that the tests start, and each worker, would compile everything anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.pop("COLUMNS", None)  # the workers of pytest-xdist have that of a small terminal
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker of pytest has one core; torch asks when it is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Started in the background, a process ignores Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test must not fail because the machine was busy; slow code shows in --durations.
settings.register_profile("guard", deadline=None, max_examples=25)
settings.load_profile("guard")


@pytest.fixture
def world(tmp_path: Path) -> made_up_garden.World:
    """A made-up data set and its configuration, in a folder of its own."""
    return made_up_garden.make(tmp_path)


@pytest.fixture(scope="session")
def shipped_guard() -> Moderator:
    """The default guard, opened once a worker."""
    return open_moderator(threads=1)


class _Rooms(LoadScopeScheduling):
    """A room of tests goes to one worker, so that what only it needs (torch, datasets) is imported once."""

    def _split_scope(self, nodeid: str) -> str:
        return "/".join(nodeid.split("::")[0].split("/")[:2])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    # The slow tests are too few and too long for that; they go file by file.
    return _Rooms(config, log) if "not slow" in config.option.markexpr else None
