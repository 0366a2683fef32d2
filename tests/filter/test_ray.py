"""guard.filter.ray: a real cluster of processes gives the bytes of a local run, also when a worker is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from guard.errors import NoBundle, ServiceError
from guard.filter.job import Job
from guard.filter.ray import RayGuard
from guard.filter.run import filter_rows
from guard.moderator import open_moderator

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    """A head without cores and two workers of one core, each with processes of its own."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    workers = [cluster.add_node(num_cpus=1, **memory) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, workers
    cluster.shutdown()


def job(folder: Path, **options) -> Job:
    folder.mkdir()
    rows = [{"prompt": f"violates:M1 {n}" if n % 7 == 0 else f"text {n % 400}", "n": n} for n in range(3000)]
    rows[5:5] = [{"prompt": ""}]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Job([folder / "in.jsonl"], folder / "out.jsonl", folder / "q.jsonl", shard_rows=50, **options)


def results(wanted: Job) -> list[bytes]:
    here = str(wanted.out.parent).encode()
    return [path.read_bytes().replace(here, b"") for path in (wanted.out, wanted.quarantine, wanted.report)]


def actors() -> list[int]:
    """The processes of the judges."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_Judge"):
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


def test_the_same_bytes_as_a_local_run_with_a_worker_killed(cluster, tmp_path):
    started, workers = cluster
    local = job(tmp_path / "local")
    filter_rows(local, open_moderator("fake", "minimal"))
    wanted = job(tmp_path / "ray")
    killed: list[str] = []
    with RayGuard("fake", "minimal", address=started.address) as guard:
        assert guard.parallel == 2

        def progress(*_):
            time.sleep(0.02)  # so that the run outlives what is done to it
            if not killed:
                os.kill(actors()[0], signal.SIGKILL)
                killed.append("a process")
            elif len(killed) == 1 and len(list(wanted.parts.glob("*.json"))) > 20:
                killed.append("a node")
                threading.Thread(target=started.remove_node, args=(workers[0], False)).start()

        filter_rows(wanted, guard, progress=progress, parallel=guard.parallel)
    assert killed == ["a process", "a node"]
    assert results(wanted) == results(local)
    assert not wanted.parts.exists()


def test_a_job_begun_here_is_finished_on_the_cluster(cluster, tmp_path):
    started, _ = cluster
    local, wanted = job(tmp_path / "local"), job(tmp_path / "ray")
    here = open_moderator("fake", "minimal")
    filter_rows(local, here)

    def stop(*_):
        if len(list(wanted.parts.glob("*.json"))) > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_rows(wanted, here, progress=stop)
    with RayGuard("fake", "minimal", address=started.address, actors=1) as guard:
        filter_rows(wanted, guard, parallel=guard.parallel)
    assert results(wanted) == results(local)


def test_no_cluster_is_an_error_that_says_what_to_do():
    pytest.importorskip("ray")
    with pytest.raises(ServiceError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        RayGuard("fake", "minimal", address="127.0.0.1:1")


def test_options_of_the_guard_reach_the_actors(cluster):
    started, _ = cluster
    with RayGuard("fake", "minimal", "strict", started.address) as guard:
        expected = dataclasses.replace(open_moderator("fake", "minimal"), mode="strict").info
        assert guard.info == expected


def test_a_bundle_that_the_nodes_do_not_have_is_the_error_of_any_guard(cluster, tmp_path):
    started, _ = cluster
    with RayGuard(str(tmp_path / "none"), address=started.address) as guard, pytest.raises(NoBundle):
        _ = guard.info
