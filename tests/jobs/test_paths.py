"""guard.jobs.paths: what cannot be read or written is told before a job begins."""

from __future__ import annotations

import os
import socket

import pytest

from guard.errors import DataError
from guard.jobs.paths import check_input, check_output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    (tmp_path / "file").write_text("rows")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        yield tmp_path


@pytest.mark.parametrize(("name", "kind"), [("folder", "folder"), ("fifo", "pipe"), ("socket", "socket")])
def test_special_files_are_named_for_what_they_are(name, kind, folder):
    with pytest.raises(DataError, match=f"/{name}: is a {kind}; it is read more than once"):
        check_input(folder / name)
    with pytest.raises(DataError, match=f"/{name}: is a {kind}; give the name of a regular file"):
        check_output(folder / name)


def test_regular_files_are_taken_and_absent_ones_only_as_output(folder):
    for name in ("file", "link"):
        check_input(folder / name)
        check_output(folder / name)
    for name in ("absent", "dangling", "file/inside", "no/file"):
        with pytest.raises(DataError, match=f"/{name}: no such file"):
            check_input(folder / name)
    check_output(folder / "absent")
    for name in ("file/inside", "no/file"):
        with pytest.raises(DataError, match=f"/{name}: there is no folder"):
            check_output(folder / name)


def test_what_cannot_be_looked_at_is_an_error(folder):
    with pytest.raises(DataError, match="File name too long"):
        check_input(folder / ("x" * 300))
