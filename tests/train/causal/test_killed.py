"""Causal runs that are killed, run out of disk, or run in two processes: the same loss curve, and a whole folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import tiny_sft

STEPS = ("trainer.max_steps=24", "checkpoint_steps=6", "lora.lora_dropout=0.1", "trainer.neftune_noise_alpha=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow")
    made = tmp_path_factory.mktemp("killed")
    tiny_sft.write_base(made / "base")
    tiny_sft.write_data(made / "data")
    return made


def losses(run: Path) -> dict[int, float]:
    history = json.loads((run / "run.json").read_text(encoding="utf-8"))["metrics"]["history"]
    return {entry["step"]: entry["loss"] for entry in history if "loss" in entry}


@pytest.fixture(scope="module")
def unkilled(folder: Path) -> dict[int, float]:
    done = tiny_sft.train(folder, "unkilled", *STEPS)
    assert done.returncode == 0, done.stderr[-3000:]
    return losses(folder / "unkilled")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(folder: Path, unkilled: dict[int, float]) -> None:
    run = folder / "killed"
    process = subprocess.Popen(
        tiny_sft.command(folder, "killed", *STEPS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=tiny_sft.ENVIRONMENT,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 8/24"):  # past a checkpoint, in the middle of an epoch
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "run.json").exists()
    torn = run / "checkpoints" / "checkpoint-12"  # as if it had been killed while it wrote this one
    torn.mkdir(exist_ok=True)
    (torn / "trainer_state.json").write_text('{"global_', encoding="utf-8")
    done = tiny_sft.train_in_a_new_python(folder, "killed", *STEPS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"going on from {run / 'checkpoints' / 'checkpoint-6'}" in done.stdout
    assert losses(run) == unkilled
    kept = [folder / name / "adapter" / "adapter_model.safetensors" for name in ("killed", "unkilled")]
    assert kept[0].read_bytes() == kept[1].read_bytes()


@pytest.mark.slow
def test_guard_train_ends_with_its_recipe_when_it_is_asked_to(folder: Path) -> None:
    _, config, *changes = tiny_sft.command(folder, "asked", "trainer.max_steps=10000")[2:]
    command = [sys.executable, "-m", "guard", "train", config, *changes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("step ") for line in process.stdout)
        process.terminate()
        assert process.wait(60) != 0
        process.stdout.read()  # ends once the recipe has, which holds the pipe too


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_later(folder: Path, unkilled: dict[int, float]) -> None:
    done = tiny_sft.train(folder, "full", *STEPS, before=tiny_sft.small_files_only)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "the checkpoint of step 6 cannot be written" in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    again = tiny_sft.train(folder, "full", *STEPS)
    assert again.returncode == 0, again.stderr[-3000:]
    assert losses(folder / "full") == unkilled


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder: Path) -> None:
    alone = ("trainer.max_steps=3", "checkpoint_steps=3", "batch_rows=4")
    done = tiny_sft.train(folder, "one", *alone, "trainer.gradient_accumulation_steps=2")
    shared = tiny_sft.train(folder, "two", *alone, "processes=2")
    assert (done.returncode, shared.returncode) == (0, 0), shared.stderr[-3000:]
    assert list(losses(folder / "two").values()) == pytest.approx(list(losses(folder / "one").values()), rel=1e-3)


@pytest.mark.slow
def test_a_run_stops_when_it_no_longer_gets_better(folder: Path) -> None:
    still = ("trainer.learning_rate=1e-12", "trainer.max_steps=40", "checkpoint_steps=2", "patience=2")
    done = tiny_sft.train(folder, "still", *still)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((folder / "still" / "run.json").read_text(encoding="utf-8"))
    assert record["metrics"]["steps"] < 40
    assert record["metrics"]["best_step"] == record["metrics"]["steps"]  # of checkpoints that rank equally, the last
