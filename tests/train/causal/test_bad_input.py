"""What the causal recipe says to a mistake: one line that tells where it is and what to do, before any work is done."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from guard import assets
from guard.cli.train import is_causal
from tests.fixtures import tiny_sft, warm

GPU_CONFIGS = ("lora-1gpu", "lora-24gb", "lora-8gpu-fsdp", "full-ft")
# Imports the recipe once, as that takes longest, and tells what it says to each configuration.
DRIVER = """
import importlib.util, json, sys
from guard.errors import GuardError
recipe, config, out = sys.argv[1:4]
spec = importlib.util.spec_from_file_location("recipe", recipe)
module = sys.modules["recipe"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
told = {}
for name, changes in json.load(sys.stdin).items():
    try:
        module.main(changes.pop("config", config), [f"{key}={value}" for key, value in changes.items()])
        told[name] = "no error"
    except GuardError as problem:
        told[name] = f"{type(problem).__name__}: {problem}"
open(out, "w").write(json.dumps(told))
"""


def shipped(name: str) -> str:
    return str(assets.asset(f"training/configs/{name}.yaml"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("bad")
    base = tiny_sft.write_base(folder / "base")
    data = tiny_sft.write_data(folder / "data")
    rows: list[dict[str, Any]] = tiny_sft.rows()
    safe = [row for row in rows if row["label"] == "safe"]
    tiny_sft.write_data(folder / "one-class", safe)
    tiny_sft.write_data(folder / "one-class-dev", rows, safe)
    tiny_sft.write_data(folder / "strange", [*rows, {**rows[-1], "id": "x", "categories": ["X9"]}])
    for name in ("bert", "bare", "chatless", "no-tokenizer", "small", "pickled", "renamed"):
        shutil.copytree(base, folder / name)
    edit(folder / "bert" / "config.json", model_type="bert", architectures=["BertForMaskedLM"])
    (folder / "bare" / "model.safetensors").unlink()
    (folder / "pickled" / "model.safetensors").rename(folder / "pickled" / "pytorch_model.bin")
    edit(folder / "renamed" / "config.json", num_hidden_layers=3)
    (folder / "no-tokenizer" / "tokenizer.json").unlink()
    edit(folder / "small" / "config.json", vocab_size=100)
    spoil(folder / "chatless" / "tokenizer.json", "<|eot_id|>", "<|other|>")
    given = {"base": base, "data": data, "out": folder / "run"}
    cases: dict[str, dict[str, Any]] = {
        "unknown key": {**given, "max_tokns": 5},
        "unknown option": {**given, "trainer.lerning_rate": "1e-3"},
        "own option": {**given, "trainer.packing": "true"},
        "precision": {**given, "trainer.bf16": "true"},
        "too many frozen": {**given, "frozen_layers": 99},
        "unknown lora": {**given, "lora.rank": 4},
        "missing base": {**given, "base": folder / "nowhere"},
        "no weights": {**given, "base": folder / "bare"},
        "encoder": {**given, "base": folder / "bert"},
        "no tokenizer": {**given, "base": folder / "no-tokenizer"},
        "no chat tokens": {**given, "base": folder / "chatless"},
        "wrong tokenizer": {**given, "base": folder / "small"},
        "one class": {**given, "data": folder / "one-class"},
        "one class of dev": {**given, "data": folder / "one-class-dev"},
        "strange code": {**given, "data": folder / "strange"},
        "no data": {**given, "data": folder / "nowhere"},
        "patience": {**given, "dev_rows": 0, "patience": 3},
        "fsdp": {**given, "trainer.fsdp": "true"},
        "pissa": {**given, "lora.init_lora_weights": "pissa"},
        "olora": {**given, "lora.init_lora_weights": "olora"},
        "trained biases": {**given, "lora.bias": "all"},
        "bias without one": {**given, "lora.lora_bias": "true"},
        "invoked adapter": {**given, "lora.alora_invocation_tokens": "[1]"},
        "no such layer": {**given, "lora.target_modules": "[c_attn]"},
        "old weights": {**given, "base": folder / "pickled"},
        "another checkpoint": {**given, "base": folder / "renamed"},
        "diverges": {**given, "trainer.learning_rate": "1e30"},
    }
    for name in GPU_CONFIGS:
        cases[name] = {**given, "config": shipped(name)}
    done = warm.python(
        "-P",
        "-c",
        DRIVER,
        assets.asset("training/recipes/sft.py"),
        shipped("cpu-tiny"),
        folder / "told.json",
        given=json.dumps(cases, default=str),
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (folder / "run" / "run.json").exists()
    found: dict[str, str] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return found


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def spoil(path: Path, token: str, other: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(token, other), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("unknown key", "ConfigError: .*unknown key `max_tokns`; did you mean `max_tokens`"),
        ("unknown option", "ConfigError: trainer.lerning_rate is no option of SFTConfig; did you mean learning_rate?"),
        ("own option", "ConfigError: trainer.packing is set by this recipe"),
        ("precision", "ConfigError: trainer.bf16 is set by this recipe; give precision, outside of trainer"),
        ("too many frozen", r"ConfigError: frozen_layers=99: the base has \d+ layers; at least one must be left"),
        ("unknown lora", "ConfigError: lora.rank is no option of LoraConfig"),
        ("missing base", "ConfigError: base '.*nowhere': no folder of that name, and the hub gave none"),
        ("no weights", "ConfigError: base '.*bare': the folder holds no weights"),
        ("encoder", "ConfigError: base '.*bert': is a BertForMaskedLM, not a causal language model"),
        ("no tokenizer", "ConfigError: base '.*no-tokenizer': has no tokenizer.json"),
        ("no chat tokens", "BundleError: .*the tokenizer has the control tokens of no known chat family"),
        ("wrong tokenizer", "BundleError: .*more than the 100 that the model of base"),
        ("one class", "DataError: .*only safe rows to train on under policy 'minimal'"),
        ("one class of dev", "DataError: .*dev rows are not of both labels.*dev_rows=0"),
        ("strange code", r"DataError: .*lacks: X9 \(1 rows\).*foreign=leave_out"),
        ("no data", "DataError: .*nowhere: no such file or folder"),
        ("patience", "ConfigError: .*patience=3 waits for a better AUPRC"),
        ("fsdp", "ConfigError: .*trainer.fsdp shards over GPUs"),
        ("pissa", "ConfigError: lora.init_lora_weights=pissa: .*; allowed: true, false, gaussian, orthogonal"),
        ("olora", "ConfigError: lora.init_lora_weights=olora: changes the base's own weights"),
        ("trained biases", "ConfigError: lora.bias=all: biases of the base .* only `none` is allowed"),
        ("bias without one", "ConfigError: lora: .*q_proj: lora_bias=true, and this layer of the base has no bias"),
        ("invoked adapter", "ConfigError: lora.alora_invocation_tokens: .* cannot be folded into its base"),
        ("no such layer", "ConfigError: lora: peft refuses it for a llama: .*c_attn"),
        ("old weights", "BundleError: .*pickled: no .* and no model.safetensors; convert the base to safetensors"),
        ("another checkpoint", r"BundleError: .* hold no tensor model\.layers\.2\..* \(9 of this model's"),
        ("diverges", r"ConfigError: step \d+: .* is (nan|inf); .* lower trainer.learning_rate \(it is 1e\+30\)"),
        *((name, "ConfigError: .*no GPU.*cpu-tiny") for name in GPU_CONFIGS),
    ],
)
def test_a_mistake_is_told_with_what_to_do(told: dict[str, str], case: str, message: str) -> None:
    assert re.match(message, told[case], re.DOTALL), told[case]


@pytest.mark.parametrize(
    ("architecture", "causal"),
    [("LlamaForCausalLM", True), ("Gemma3ForConditionalGeneration", True), ("BertModel", False)],
)
def test_a_base_is_known_by_its_description(tmp_path: Path, architecture: str, causal: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}), encoding="utf-8")
    assert is_causal(str(tmp_path)) is causal


def test_a_base_that_is_no_folder_is_a_name_on_the_hub(tmp_path: Path) -> None:
    assert is_causal("Qwen/Qwen3-0.6B")
    assert not is_causal("mini")
    assert not is_causal(None)
    assert not is_causal(str(tmp_path))
