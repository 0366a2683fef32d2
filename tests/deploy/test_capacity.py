"""The page on capacity: its examples are what the formula makes of the measured numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, str(ROOT / "benchmarks" / "capacity.py")]
PAGE = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "grpc_throughput.json").read_text())


def run(*options: str) -> str:
    return subprocess.run([*SCRIPT, *options], check=True, capture_output=True, text=True).stdout


def test_the_examples_are_fresh_and_follow_from_the_measurement() -> None:
    run("--check")
    rows = re.findall(r"^\| ([\d.]+) \| `(\w+)` \| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for wanted, way, cores, ms, _, replicas in rows:
        measured = MEASURED["cpu_ms_per_text"][way]["server_and_engine"]
        assert float(ms) == pytest.approx(measured, abs=0.05)
        working = int(replicas) - 1
        one = 0.6 * int(cores) * 1000 / measured
        assert (working - 1) * one < float(wanted) <= working * one


def test_the_latencies_that_it_names_were_measured() -> None:
    p50, p99 = (round(MEASURED["at_0.8_of_unary_ms"][each]) for each in ("p50", "p99"))
    assert f"a p50 of {p50} ms and a p99 of {p99:,} ms" in PAGE
    assert f"one call alone takes {MEASURED['one_by_one_ms']['unary']['p50']:.0f} ms" in PAGE


def test_longer_texts_and_smaller_shares_take_more() -> None:
    base = ["--per-second", "100", "--cpu-ms", "10", "--cores", "1", "--spare", "0"]
    assert run(*base, "--utilisation", "1").startswith("1 replicas of 1 cores (100 conversations/s each)")
    assert run(*base, "--utilisation", "0.5").startswith("2 replicas")
    assert run(*base, "--utilisation", "0.5", "--windows", "4").startswith("8 replicas")
