"""Files that a command writes at its end: what cannot be is told before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guard.cli import report_file
from guard.errors import InvalidInput


def test_a_file_that_can_be_written_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report_file.check(None, Path("new.json"), tmp_path / "new.json")
    report_file.write(Path("new.json"), "x")
    report_file.check(Path("new.json"))
    assert (tmp_path / "new.json").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "told"), [("nowhere/x.json", "there is no folder "), (".", "is a folder; give the name of a file")]
)
def test_what_cannot_be_written_is_told_first(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        report_file.check(None, tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_told_first(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidInput, match="Permission denied"):
        report_file.check(tmp_path / "x.json")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses")
def test_what_the_file_system_refuses_is_one_error() -> None:
    with pytest.raises(InvalidInput, match=r"/proc/x\.json: cannot be written: .*; choose another file"):
        report_file.write(Path("/proc/x.json"), "x")
