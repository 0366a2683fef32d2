"""guard.filter: a job that is killed before any of its file operations, and started again, ends with the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from guard.engines.fake import FakeEngine
from guard.filter.columns import parse_columns
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.filter.scoring import BATCH
from guard.moderator import Moderator
from guard.policy import load

POINTS = 20
_WRITES = os.O_WRONLY | os.O_RDWR
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.filter.test_kill", "pyarrow.parquet"])


class DriftingEngine(FakeEngine):
    """Like a real one, its scores differ a little with the size of the batch.

    killed_at: the call in which the process dies; windows: how many it was asked for.
    """

    def __init__(self, killed_at: int = 0):
        self.killed_at, self.calls, self.windows = killed_at, 0, 0

    def score(self, windows):
        self.calls, self.windows = self.calls + 1, self.windows + len(windows)
        if self.calls == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return [type(s)(s.unsafe + len(windows) * 1e-3, s.categories) for s in super().score(windows)]


def work(job: Job, cache: Path | None, point: int, counted) -> None:
    """Runs the job, and kills itself before the file operation number `point`; there are `counted` in the end."""
    done = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal done
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        ):
            done += 1
            if done == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    filter_rows(job, Moderator(DriftingEngine(), load("minimal")), cache=cache, parallel=2)
    counted.value = done


def run(job: Job, cache: Path | None = None, point: int = 0) -> tuple[int, int]:
    """The exit code and the number of file operations."""
    counted = processes.Value("i", 0)
    process = processes.Process(target=work, args=(job, cache, point, counted))
    process.start()
    process.join(60)
    return process.exitcode, counted.value


def rows(first: int, count: int) -> list[dict]:
    """Every fifth text again, every seventh UNSAFE, some not to be judged."""
    texts = [
        f"text {n // 5}" if n % 5 == 0 else f"violates:M1 {n}" if n % 7 == 0 else f"text {n}" for n in range(count)
    ]
    return [{"prompt": "" if n % 11 == 0 else text, "n": first + n} for n, text in enumerate(texts)]


def jsonl_job(folder: Path) -> Job:
    folder.mkdir()
    for name, first in (("a", 0), ("b", 90)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(first, 60)) + "{broken\n")
    inputs = [folder / "a.jsonl", folder / "b.jsonl"]
    return Job(inputs, folder / "out.jsonl.gz", folder / "q.jsonl", columns=parse_columns("", "all"), shard_rows=24)


def parquet_job(folder: Path) -> Job:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    (folder / "in").mkdir()
    for name, first in (("a", 0), ("b", 90)):
        pq.write_table(pa.Table.from_pylist(rows(first, 60)), folder / "in" / f"{name}.parquet", row_group_size=13)
    return Job([folder / "in"], folder / "out", folder / "q.jsonl", keep="all", shard_rows=24)


def results(job: Job) -> dict[str, bytes]:
    """All that the job wrote, with no word of where it lies."""
    here = job.quarantine.parent
    return {
        str(path.relative_to(here)): path.read_bytes().replace(str(here).encode(), b"")
        for path in sorted(here.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("make", [jsonl_job, pytest.param(parquet_job, marks=pytest.mark.slow)])
def test_killed_at_twenty_points(make, tmp_path):
    if make is parquet_job:
        pytest.importorskip("pyarrow")
    whole = make(tmp_path / "whole")
    code, operations = run(whole)
    expected = results(whole)
    assert code == 0
    assert operations > 2 * POINTS
    for place in range(POINTS):
        job = make(tmp_path / f"killed-{place}")
        cache = None if place % 2 else tmp_path / f"scores-{place}.cache"
        point = 1 + place * (operations - 1) // (POINTS - 1)
        assert run(job, cache, point)[0] == -signal.SIGKILL
        if place % 5 == 0:  # and once more
            run(job, cache, point // 2)
        if not job.report.exists() or job.parts.exists():
            assert run(job, cache)[0] == 0
        for left in job.quarantine.parent.glob("*.lock"):
            left.unlink()  # of a job that was killed after its last result; nobody holds it
        assert results(job) == expected, f"killed before operation {point} of {operations}"


def score(job: Job, killed_at: int, windows) -> None:
    """Runs the job; `windows` becomes the number of those that were scored, in the call that is killed too."""
    engine = DriftingEngine(killed_at)
    filter_rows(job, Moderator(engine, load("minimal")))
    windows.value = engine.windows


def scored(job: Job, killed_at: int = 0) -> int:
    windows = processes.Value("i", 0)
    process = processes.Process(target=score, args=(job, killed_at, windows))
    process.start()
    process.join(60)
    assert process.exitcode == (-signal.SIGKILL if killed_at else 0)
    return windows.value


@pytest.mark.parametrize("killed_at", [2, 4, 7])
def test_a_killed_run_loses_one_batch(killed_at, tmp_path):
    """Of the shard in flight, what was scored is kept, and the rest is scored in the same batches."""
    texts = [json.dumps({"prompt": f"text {n} {'long ' * (n % 7)}"}) + "\n" for n in range(9 * BATCH + 5)]

    def job(name: str) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "in.jsonl").write_text("".join(texts))
        results = folder / "out.jsonl", folder / "q.jsonl"
        return Job([folder / "in.jsonl"], *results, annotate=True, shard_rows=6 * BATCH + 3)

    whole, killed = job("whole"), job("killed")
    windows = scored(whole)
    assert windows == len(texts)
    scored(killed, killed_at)
    assert scored(killed) == windows - (killed_at - 1) * BATCH
    assert results(killed) == results(whole)
