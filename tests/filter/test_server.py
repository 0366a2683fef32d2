"""guard.filter by a running service that goes away during the run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from guard.errors import ServiceError
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import open_moderator
from guard.serve.client import open_guard
from tests.fixtures.served import started


def job(folder: Path) -> Job:
    folder.mkdir()
    rows = [{"prompt": f"violates:S1 {n}" if n % 7 == 0 else f"text {n}"} for n in range(600)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Job([folder / "in.jsonl"], folder / "out.jsonl", folder / "q.jsonl", shard_rows=50)


@pytest.fixture
def expected(tmp_path) -> bytes:
    local = job(tmp_path / "local")
    filter_rows(local, open_moderator("fake"))
    return local.out.read_bytes()


def test_a_server_that_comes_back_is_waited_for(expected, tmp_path):
    wanted = job(tmp_path / "served")
    came_back = threading.Event()
    done = threading.Event()

    def again(port: str) -> None:
        time.sleep(1)
        with started(tmp_path / "second", "--port", port):
            came_back.set()
            done.wait(60)

    with started(tmp_path / "first") as first, open_guard(server=first.address) as guard:
        port = first.address.rpartition(":")[2]
        other = threading.Thread(target=again, args=(port,))

        def stop(*_):
            if first.popen.poll() is None:
                first.popen.kill()
                first.popen.wait()
                other.start()

        try:
            filter_rows(wanted, guard, progress=stop, parallel=1, patience_s=60)
        finally:
            done.set()
            other.join()
    assert came_back.is_set()
    assert wanted.out.read_bytes() == expected


def test_a_server_that_stays_away_ends_the_job_which_then_resumes(expected, tmp_path):
    wanted = job(tmp_path / "served")
    with started(tmp_path / "first") as first, open_guard(server=first.address) as guard:

        def stop(*_):
            first.popen.kill()

        with pytest.raises(ServiceError):
            filter_rows(wanted, guard, progress=stop, parallel=1, patience_s=0)
    assert not wanted.out.exists()
    with started(tmp_path / "second") as second, open_guard(server=second.address) as guard:
        filter_rows(wanted, guard, parallel=2)
    assert wanted.out.read_bytes() == expected
