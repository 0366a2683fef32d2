"""QLoRA on a CPU: the base lies in 4 bits while an adapter learns, and the export folds it into the base as it was."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from guard.conversation import conversation_from_row
from guard.metrics import classification
from guard.moderator import open_moderator
from tests.fixtures import tiny_sft

SHORT = ("qlora=true", "trainer.max_steps=8", "checkpoint_steps=4", "lora.lora_dropout=0.1")

COMPARED = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from guard.train.causal.merged import MergedWeights, linear_weights
from guard.train.causal.qlora import four_bits
run = Path(sys.argv[1])
base = run.parent / "base"
stored_in = four_bits(True, cuda=False)
loaded = AutoModelForCausalLM.from_pretrained(base, quantization_config=stored_in, dtype=torch.float32)
plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
merged = PeftModel.from_pretrained(plain, run / "adapter").merge_and_unload().state_dict()
stored = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
ours, names = MergedWeights(str(base), run / "adapter", in_four_bits=True), linear_weights(loaded.config)
import bitsandbytes.functional as bits
held = {}
for name, module in loaded.named_modules():
    if type(module).__name__ == "Linear4bit":
        whole = bits.dequantize_4bit(module.weight, module.weight.quant_state)
        held[f"{name}.weight"] = whole.reshape(module.out_features, -1)
assert set(held) == set(names)
change = {name: merged[name] - stored[name] for name in names}
print(json.dumps({
    "folded": len(held),
    "furthest": max(float((ours.tensor(n) - change[n] - held[n]).abs().max()) for n in names),
    "moved": max(float((held[n] - stored[n]).abs().max()) for n in names),
    "others_moved": max(float((ours.tensor(n) - stored[n]).abs().max()) for n in stored if n not in names),
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("qlora")
    tiny_sft.write_base(folder / "base")
    tiny_sft.write_data(folder / "data")
    done = tiny_sft.train(folder, "run", "qlora=true")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@pytest.mark.slow
def test_the_adapter_learns_on_a_base_in_four_bits(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["metrics"]["best_auprc"] > 0.99
    assert record["metrics"]["last_loss"] < record["metrics"]["first_loss"] / 4
    adapter = json.loads((run / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == str(run.parent / "base")


@pytest.mark.slow
def test_the_base_was_another_one_while_it_learnt(run: Path) -> None:
    """In 4 bits a random base of 64 dimensions answers otherwise, so that the first loss tells the two apart."""
    plain = tiny_sft.train(run.parent, "plain", "trainer.max_steps=1", "checkpoint_steps=1")
    assert plain.returncode == 0, plain.stderr[-3000:]
    one, other = (json.loads((run.parent / name / "run.json").read_text(encoding="utf-8")) for name in ("run", "plain"))
    assert abs(one["metrics"]["first_loss"] - other["metrics"]["first_loss"]) > 1e-3
    assert one["parameters"] == other["parameters"]  # two to a byte are counted as two
    assert one["trained_parameters"] == other["trained_parameters"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_adapter(run: Path) -> None:
    folder = run.parent
    done = tiny_sft.train(folder, "whole", *SHORT)
    assert done.returncode == 0, done.stderr[-3000:]
    with subprocess.Popen(
        tiny_sft.command(folder, "killed", *SHORT), stdout=subprocess.PIPE, text=True, env=tiny_sft.ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 6/8"):
                process.kill()
                break
    assert not (folder / "killed" / "run.json").exists()
    again = tiny_sft.train(folder, "killed", *SHORT)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "going on from" in again.stdout
    one, other = (folder / name / "adapter" / "adapter_model.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_the_bundle_ranks_as_the_guard_that_was_judged(run: Path) -> None:
    bundle = run.parent / "bundle"
    code = "import sys, pathlib; from guard.train.export import export; export(*map(pathlib.Path, sys.argv[1:]))"
    tiny_sft.python("-c", code, str(run), str(bundle))
    learnt = tiny_sft.rows()
    verdicts = open_moderator(bundle).moderate([conversation_from_row(row) for row in learnt])
    labels = np.array([row["label"] == "unsafe" for row in learnt])
    found = classification.auprc(labels, np.array([verdict.p_unsafe for verdict in verdicts]))
    assert found == pytest.approx(json.loads((run / "run.json").read_text())["metrics"]["best_auprc"], abs=0.002)


@pytest.mark.slow
def test_the_adapter_is_folded_into_the_values_that_it_learnt_on(run: Path) -> None:
    """Every linear layer as bitsandbytes holds it when transformers has loaded the base in 4 bits, and no other."""
    told = json.loads(tiny_sft.python("-c", COMPARED, str(run)))
    assert told["folded"] == 14  # seven in each of two layers
    assert told["furthest"] < 1e-6
    assert told["moved"] > 0.01
    assert told["others_moved"] == 0.0
