"""guard.jobs.cache: what was computed once is there again, for all threads and processes."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.errors import DataError
from guard.jobs.cache import Cache

CANARY = "canary-of-the-user-7f3a"
JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
def test_what_is_put_comes_back(values):
    with tempfile.TemporaryDirectory() as folder:
        with Cache(Path(folder) / "c") as cache:
            cache.put_many(values)
        with Cache(Path(folder) / "c") as cache:
            assert cache.get_many([*values, "another key"]) == values
            assert {key: cache.get(key) for key in values} == values
            assert cache.get("another key") is None


def test_the_first_value_of_a_key_stays(path):
    with Cache(path) as cache:
        cache.put("key", 1)
        cache.put_many({"key": 2, "other": 3})
        assert cache.get_many(["key", "other"]) == {"key": 1, "other": 3}


def test_values_are_found_by_their_tag_in_the_order_in_which_they_came(path):
    with Cache(path) as cache:
        cache.put_many({f"key {number}": number for number in range(2500)}, "mine")
        cache.put("other", "yours", "yours")
        cache.put("untagged", 0)
        assert list(cache.tagged("mine")) == list(range(2500))
        assert list(cache.tagged("yours")) == ["yours"]
        assert list(cache.tagged("nobody's")) == list(cache.tagged("")) == []


def test_the_oldest_entries_go_where_there_is_a_bound(path):
    with Cache(path, max_entries=3) as cache:
        for number in range(5):
            cache.put(str(number), number)
        cache.put("4", "again")  # no new entry: nothing has to go
        assert cache.get_many(map(str, range(5))) == {"2": 2, "3": 3, "4": 4}
        cache.put_many({"5": 5, "6": 6, "7": 7, "8": 8})
        assert cache.get_many(map(str, range(9))) == {"6": 6, "7": 7, "8": 8}


def test_all_values_are_kept_or_none(path):
    with Cache(path) as cache:
        with pytest.raises(TypeError):
            cache.put_many({"good": 1, "bad": object()})
        with pytest.raises(UnicodeEncodeError):
            cache.put_many({"good": 1, "bad\ud800": 2})
        assert cache.get("good") is None
        cache.put("good", 1)
        assert cache.get("good") == 1


def test_threads_and_connections_share_a_file(path):
    caches = [Cache(path), Cache(path)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: caches[number % 2].put(str(number), number, "all"), range(200)))
    assert sorted(caches[0].tagged("all")) == list(range(200))
    for cache in caches:
        cache.close()


def test_processes_share_a_file_and_a_value_survives_a_kill(path):
    code = """
import os, signal, sys
from pathlib import Path
from guard.jobs.cache import Cache
cache = Cache(Path(sys.argv[1]))
for number in range(50):
    cache.put(f"{sys.argv[2]} {number}", number, sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, name], stderr=subprocess.PIPE) for name in ("a", "b", "c")
    ]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == -9, error
    with Cache(path) as cache:
        assert [list(cache.tagged(name)) for name in ("a", "b", "c")] == [list(range(50))] * 3


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f"{CANARY}\n" * 100)
    for path, reason in ((rows, "NOTADB"), (tmp_path / "none" / "c", "CANTOPEN"), (tmp_path, "CANTOPEN")):
        with pytest.raises(DataError, match=rf"cannot be used as a cache \(SQLITE_{reason}\); choose") as error:
            Cache(path)
        assert CANARY not in str(error.value)
    assert rows.read_text() == f"{CANARY}\n" * 100
    for name, statement in (("newer", "PRAGMA user_version = 9"), ("other", "CREATE TABLE own (a)")):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute(statement)
        connection.close()
        before = (tmp_path / name).read_bytes()
        with pytest.raises(DataError, match=r"cannot be used as a cache \(format [09], this version supports \d\)"):
            Cache(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_only_the_owner_may_read_it(path):
    with Cache(path) as cache:
        cache.put("key", json.dumps(CANARY))
        files = list(path.parent.iterdir())
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert any(CANARY.encode() in file.read_bytes() for file in files)
    assert CANARY not in repr(cache)
