"""examples/spark_filter.py: rows are judged on Spark as by `guard filter`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import open_moderator

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_spark_judges_as_guard_filter_does(tmp_path):
    pytest.importorskip("pyspark")
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    texts = [None if n % 11 == 3 else f"violates:S1 {n}" if n % 7 == 0 else f"text {n}" for n in range(60)]
    rows = pa.table(
        {"id": range(60), "prompt": texts, "response": [None if n % 2 else f"answer {n}" for n in range(60)]}
    )
    pq.write_table(rows, tmp_path / "in.parquet")
    job = Job([tmp_path / "in.parquet"], tmp_path / "kept.parquet", tmp_path / "q.jsonl")
    with open_moderator("fake") as guard:
        tally = filter_rows(job, guard)
    light = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYSPARK_SUBMIT_ARGS": "--master local[1] --conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JDK_JAVA_OPTIONS": "-Xmx700m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    }
    command = [sys.executable, str(ROOT / "examples" / "spark_filter.py"), "in.parquet", "out", "--model", "fake"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **light}, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    kept = {row["id"]: row for row in pq.read_table(tmp_path / "kept.parquet").to_pylist()}
    spark = {row["id"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert 0 < len(kept) == tally.kept < tally.read
    for row in (*kept.values(), *spark.values()):  # JSON text in both
        row["guard_categories"], row["guard_coverage"] = map(
            json.loads, (row["guard_categories"], row["guard_coverage"])
        )
    assert spark == kept
    assert pq.read_table(tmp_path / "out.quarantine").num_rows == tally.quarantined > 0
