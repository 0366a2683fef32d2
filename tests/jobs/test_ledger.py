"""guard.jobs.ledger: a part is there whole or not at all, whenever the job was killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from guard.errors import DataError
from guard.jobs.ledger import open_ledger

SETTINGS = {"input": "abc", "column": None}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "parts"


def with_parts(folder, count=1, content=b"rows"):
    with open_ledger(folder, SETTINGS) as ledger:
        for part in range(count):
            ledger.path(part, "kept").write_bytes(content)
            ledger.path(part, "keys.u32").write_bytes(content)
            ledger.commit(part, {"rows": part})


def finished(folder, part=0):
    with open_ledger(folder, SETTINGS) as ledger:
        return ledger.finished(part)


def test_parts_outlive_the_process_until_they_are_removed(folder):
    with open_ledger(folder, SETTINGS) as ledger:
        assert not ledger.finished(0)
        ledger.commit(0, {"rows": 3})
    with open_ledger(folder, SETTINGS) as ledger:
        assert ledger.finished(0)
        assert ledger.record(0) == {"rows": 3}
    with open_ledger(folder, SETTINGS, restart=True) as ledger:
        assert not ledger.finished(0)
        ledger.remove()
    assert not list(folder.parent.iterdir())


@pytest.mark.parametrize("other", [{"input": "abd"}, {"column": "text"}, {"keep": None}])
def test_other_settings_are_refused_by_name_or_throw_the_parts_away(other, folder):
    with_parts(folder)
    with pytest.raises(DataError, match=f"differs in: {next(iter(other))} "), open_ledger(folder, SETTINGS | other):
        pass
    assert finished(folder)
    with open_ledger(folder, SETTINGS | other, discard=True) as ledger:
        assert not ledger.finished(0)
        ledger.commit(0, {})
    with open_ledger(folder, SETTINGS | other, discard=True) as ledger:
        assert ledger.finished(0)


def test_damaged_settings_are_other_settings(folder):
    with_parts(folder)
    (folder / "settings.json").write_text('{"input"')
    with pytest.raises(DataError, match="differs in: input, column;"), open_ledger(folder, SETTINGS):
        pass
    with open_ledger(folder, SETTINGS, restart=True) as ledger:
        assert not ledger.finished(0)


@pytest.mark.parametrize("name", ["000000.kept", "000000.keys.u32", "000000.json"])
@pytest.mark.parametrize("change", ["truncated", "altered", "removed"])
def test_a_part_whose_files_are_not_those_that_were_committed_is_not_finished(name, change, folder):
    with_parts(folder, 2)
    path = folder / name
    if change == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    elif change == "altered":
        path.write_bytes(path.read_bytes()[::-1])
    else:
        path.unlink()
    assert not finished(folder, 0)
    assert finished(folder, 1)


def test_the_record_of_a_part_that_is_not_finished_is_an_error(folder):
    with open_ledger(folder, SETTINGS) as ledger, pytest.raises(DataError, match=r"000000\.json: damaged"):
        ledger.record(0)


def test_what_a_kill_leaves_is_still_a_ledger(folder):
    folder.mkdir()
    (folder / "settings.json.4711.tmp").write_text("{")  # killed before the settings were whole
    with_parts(folder, 3)
    (folder / "000001.kept").unlink()
    (folder / "000001.kept").mkdir()  # cannot be unlinked: the removal stops half-way
    with pytest.raises(OSError, match=r"000001\.kept"), open_ledger(folder, SETTINGS) as ledger:
        ledger.remove()
    assert [part for part in range(3) if finished(folder, part)] == []


def test_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("mine")
    for restart in (False, True):
        with (
            pytest.raises(DataError, match="not a folder of job parts"),
            open_ledger(tmp_path / "own", SETTINGS, restart),
        ):
            pass
    assert (tmp_path / "own" / "file").read_text() == "mine"


def test_outputs_of_a_finished_job_are_replaced_only_by_a_restart(folder):
    out, absent = folder.with_name("out"), folder.with_name("absent")
    out.write_text("finished")
    with (
        pytest.raises(DataError, match=f"^{out}: already exists; give --restart to replace it"),
        open_ledger(folder, SETTINGS, outputs=(absent, out)),
    ):
        pass
    assert list(folder.parent.iterdir()) == [out]
    with open_ledger(folder, SETTINGS, restart=True, outputs=(absent, out)) as ledger:
        ledger.commit(0, {})
    with open_ledger(folder, SETTINGS, outputs=(absent, out)) as ledger:  # begun, so it may go on
        assert ledger.finished(0)


def test_only_the_owner_may_read_the_records(folder):
    with_parts(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# -- locks -------------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from guard.jobs.ledger import open_ledger
with open_ledger(Path(sys.argv[1]), {"input": "abc", "column": None}):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_ledger_is_open_once_and_a_second_is_told_who_has_it(folder):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        for options in ({}, {"restart": True}, {"discard": True}):
            with (
                pytest.raises(DataError, match=rf"parts: in use by process {process.pid} on \S+ since 20\d\d-.*; wait"),
                open_ledger(folder, SETTINGS, **options),
            ):
                pass
        process.kill()
    assert folder.with_name("parts.lock").exists()
    with_parts(folder)  # the lock of a killed process is free
    assert not folder.with_name("parts.lock").exists()


def test_a_lock_ends_with_its_block_whatever_happens_in_it(folder):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), open_ledger(folder, SETTINGS):
            raise ZeroDivisionError
    assert not folder.with_name("parts.lock").exists()


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    with (
        pytest.raises(DataError, match=r"parts\.lock: cannot be written: "),
        open_ledger(tmp_path / "no" / "parts", {}),
    ):
        pass
