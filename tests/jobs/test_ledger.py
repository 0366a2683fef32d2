"""guard.jobs.ledger: a part is there whole or not at all, whenever the job was killed."""

from __future__ import annotations

import pytest

from guard.errors import DataError
from guard.jobs.ledger import open_ledger

SETTINGS = {"input": "abc", "column": None}


def test_parts_outlive_the_process_until_they_are_removed(tmp_path):
    ledger = open_ledger(tmp_path / "parts", SETTINGS)
    assert not ledger.finished(0)
    ledger.commit(0, {"rows": 3})
    again = open_ledger(tmp_path / "parts", SETTINGS)
    assert again.finished(0)
    assert again.record(0) == {"rows": 3}
    assert not open_ledger(tmp_path / "parts", SETTINGS, restart=True).finished(0)
    again.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"input": "abd"}, {"column": "text"}, {"keep": None}])
def test_other_settings_are_refused_by_name(other, tmp_path):
    open_ledger(tmp_path / "parts", SETTINGS)
    with pytest.raises(DataError, match=f"differs in: {next(iter(other))};"):
        open_ledger(tmp_path / "parts", SETTINGS | other)


def test_what_a_kill_leaves_is_still_a_ledger(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "settings.json.4711.tmp").write_text("{")  # killed before the settings were whole
    ledger = open_ledger(folder, SETTINGS)
    for part in range(3):
        ledger.path(part, "kept").write_bytes(b"")
        ledger.commit(part, {})
    (folder / "000001.kept").unlink()
    (folder / "000001.kept").mkdir()  # cannot be unlinked: the removal stops half-way
    with pytest.raises(OSError, match=r"000001\.kept"):
        ledger.remove()
    left = open_ledger(folder, SETTINGS)
    assert [part for part in range(3) if left.finished(part) and not left.path(part, "kept").is_file()] == []


def test_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    for restart in (False, True):
        with pytest.raises(DataError, match="in the way"):
            open_ledger(tmp_path, SETTINGS, restart)
    assert (tmp_path / "file").read_text() == "mine"
