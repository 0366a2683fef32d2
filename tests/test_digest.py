"""guard.digest: the checksum of a file."""

from __future__ import annotations

import pytest

from guard.digest import file_digest


def test_the_checksum_of_a_file_is_its_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")
