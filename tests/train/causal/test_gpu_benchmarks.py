"""The GPU benchmarks run from end to end on a CPU, with a tiny model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.fixtures import warm

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.python(BENCHMARKS / script, *arguments)


def result(script: str, out: Path, *arguments: str) -> dict:
    done = run(script, "--shape", "tiny", "--device", "cpu", "--out", str(out), *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_training_is_measured_both_ways(tmp_path: Path) -> None:
    found = result("gpu_train.py", tmp_path / "train.json", "--steps", "3", "--warm", "1")
    for name, accumulation in (("config", 8), ("plain", 1)):
        each = found[name]
        assert (each["batch"], each["accumulation"], each["steps_timed"]) == (8, accumulation, 2)
        assert each["tokens_per_s"] > 0
        assert each["mfu"] > 0  # above 1 where the tiny shape's GEMM rate was measured beside other work
    assert found["config"]["tokens_per_step"] > 4 * found["plain"]["tokens_per_step"]


@pytest.mark.slow
def test_scoring_is_measured_against_generating(tmp_path: Path) -> None:
    found = result("gpu_score.py", tmp_path / "score.json", "--rounds", "2")
    assert found["furthest"] <= 1e-3
    assert found["spread"] > 0.1  # else what was compared is a constant
    assert set(found["prefix_cached"]) == {"1", "8", "16", "32", "64"}
    assert set(found["times_generate"]) == {"1", "8", "64"}
    assert all(each["gemm_share"] > 0 for each in found["prefix_cached"].values())  # how large is the machine's affair
    assert all(times > 0 for times in found["times_generate"].values())


@pytest.mark.slow
@pytest.mark.parametrize("script", ["gpu_train.py", "gpu_score.py"])
def test_without_a_gpu_the_error_says_what_runs(script: str) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run(script)
    assert done.returncode == 2
    assert "--shape tiny --device cpu runs the script without one" in done.stderr
