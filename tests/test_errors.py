"""guard.errors: what a missing package is told with."""

from __future__ import annotations

import pickle
import re
import sys
import tomllib
from pathlib import Path

import pytest

from guard.errors import BundleError, ConfigError, DataError, GuardError, InvalidInput, MissingExtra, need

ROOT = Path(__file__).parent.parent


def test_the_hint_for_a_missing_extra_is_the_command_of_the_page():
    with pytest.raises(MissingExtra) as error:
        need("no_such_package", "train")
    command = "pip install -c constraints.txt '.[train]'"
    assert str(error.value) == f"no_such_package is not installed; run in a checkout of guard: {command}"
    assert command in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [DataError, ConfigError, BundleError, InvalidInput])
def test_an_error_comes_through_between_processes_as_it_was(kind: type[GuardError]) -> None:
    told = pickle.loads(pickle.dumps(kind("raw/talks.jsonl row 51: not valid JSON")))
    assert (type(told), str(told)) == (kind, "raw/talks.jsonl row 51: not valid JSON")


def test_a_package_that_is_broken_itself_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as error:
        need("broken_package", "train")
    assert not isinstance(error.value, MissingExtra)
    sys.modules.pop("broken_package", None)


def test_every_extra_is_one_that_code_asks_for():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "guard").rglob("*.py"))
    assert set(re.findall(r'(?:need|check_installed)\([\w."]+, "(\w+)"\)', code)) == extras - {"dev", "docs"}
