"""The recipe `rl` on a tiny policy out of a GGUF file: components before and after, and a run of something else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from guard import assets
from tests.fixtures import warm

pytestmark = pytest.mark.slow

BASE = """
import sys
from pathlib import Path
from tests.fixtures import tiny_causal, tiny_gguf, tiny_scorer
folder = Path(sys.argv[1])
tiny_causal.write_base(folder / "base")
tiny_gguf.write(folder / "base", folder / "base.gguf")
for seed in (1, 2):
    tiny_scorer.write_scorer(folder / f"helpful-{seed}", folder / "base", seed=seed)
"""
PROMPTS = ("Tell me of the sea", "Bake bread", "Draw a cat", "Take the train", "Name a policy", "Count to nine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rl")
    done = warm.python("-c", BASE, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [
        {"prompt": f"{text}, number {n}?", "verdict": ("safe", "unsafe")[n % 2]} for n in range(3) for text in PROMPTS
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def train(folder: Path, *changes: str):
    script, config = (assets.asset(f"training/{path}") for path in ("recipes/rl.py", "configs/rl.yaml"))
    places = [f"base={folder / 'base.gguf'}", f"data={folder / 'prompts.jsonl'}", f"out={folder / 'run'}"]
    given = ["guard=fake", "policy=minimal", f"reward_model={folder / 'helpful-1'}", "held_out=0.3", "device=cpu"]
    short = ["completion_tokens=8", "trainer.max_steps=2", "trainer.num_generations=4"]
    small = ["trainer.per_device_train_batch_size=4", "checkpoint_steps=1"]
    return warm.python("-P", script, config, *places, *given, *short, *small, *changes)


def test_a_policy_is_rewarded_and_its_run_goes_on_only_with_the_same_rewards(folder):
    stopped = train(folder, "trainer.max_steps=1")
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    run = json.loads((folder / "run" / "run.json").read_text())
    assert set(run["digests"]["reward"]) == {"safe", "helpful"}
    (history,) = run["metrics"]["history"]
    assert history["step"] == 1
    for when in ("before", "after"):
        told = run["metrics"][when]
        assert told["prompts"] > 0
        assert told["undecided"] == 0
        assert all(math.isfinite(told[name]) for name in ("safe", "helpful", "reward", "length"))
    assert (folder / "run" / "adapter" / "adapter_model.safetensors").is_file()
    again = train(folder, "trainer.max_steps=1")
    assert "is finished already" in again.stdout

    (folder / "run" / "run.json").unlink()  # as if it had been killed
    for change, told in (
        ("policy=mlcommons", r"digests.reward.safe"),
        (f"reward_model={folder / 'helpful-2'}", "digests.reward.helpful"),
    ):
        other = train(folder, "trainer.max_steps=1", change)
        assert other.returncode == 2
        assert f"holds a run that differs in {told}" in other.stderr
    moved = (folder / "helpful-1").rename(folder / "moved")
    resumed = train(folder, "trainer.max_steps=1", f"reward_model={moved}")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    after = json.loads((folder / "run" / "run.json").read_text())["metrics"]["after"]
    assert after == run["metrics"]["after"]
