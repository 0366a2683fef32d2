"""guard.jobs.atomic: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import stat

from guard.jobs.atomic import atomic


def _write_half_and_die(path):
    with contextlib.suppress(KeyboardInterrupt), atomic(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_atomic_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    _write_half_and_die(path)
    assert path.read_bytes() == b"old"
    with atomic(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"for all")
    path.chmod(0o644)
    with atomic(path, private=True) as file:
        assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("*.tmp")] == [0o600]
        file.write(b"mine")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, b"mine")
