"""Real exports of a tiny random guard in each form: parity, the cut output layer, refusals that leave nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from guard import policy
from guard.bundle import open_bundle
from guard.conversation import Conversation
from guard.engines.causal_onnx import CausalOnnxEngine
from guard.engines.registry import open_engine
from guard.errors import PolicyError
from tests.fixtures import tiny_run

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
FIXTURES = str(Path(tiny_run.__file__).parent)

# Compares what the export reads, a tensor at a time, with peft's own merge of the whole model.
MERGE = """
import sys, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM
from guard.train.causal.merged import MergedWeights
root = Path(sys.argv[1])
base = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
plain = {name: value.clone() for name, value in base.state_dict().items()}
whole = PeftModel.from_pretrained(base, str(root / "run" / "adapter")).merge_and_unload().state_dict()
read = MergedWeights(str(root / "base"), root / "run" / "adapter")
print(max(float((read.tensor(name) - value).abs().max()) for name, value in whole.items()))
print(max(float((plain[name] - value).abs().max()) for name, value in whole.items()))
"""

# What checking an 8B model takes in each form, and what is said where that is not there.
MEMORY = """
from transformers import LlamaConfig
from guard.errors import BundleError
from guard.train.causal.export import _check_memory, available_memory, memory_needed
from guard.train.causal.quantise import FORMS
config = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                     num_attention_heads=32, num_key_value_heads=8)
assert available_memory() > 0
for form in FORMS.values():
    needed = memory_needed(config, form)
    try:
        _check_memory(needed, form, 24 << 30)
        print(form.name, needed, "fits")
    except BundleError as told:
        print(form.name, needed, told)
"""

# The graph of a random model against torch on the same stored weights, the policy's part cached, in log-odds.
EXACT = """
import sys
import numpy as np, torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from guard.engines.causal_graph import CausalGraph
from guard.train.causal.graph import write_graph
from guard.train.causal.quantise import FORMS
from guard.train.causal.reference import torch_log_odds
folder, form, tied = Path(sys.argv[1]), FORMS[sys.argv[2]], sys.argv[3] == "tied"
torch.manual_seed(0)
config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=tied)
weights = LlamaForCausalLM(config).state_dict()
write_graph(config, weights.__getitem__, form, folder / "model.onnx")
graph = CausalGraph.open(folder / "model.onnx", 1)
ids = torch.randint(0, 300, (3, 24)).tolist()
whole = [[*ids[0][:10], *row] for row in ids]
stored, _ = torch_log_odds(config, weights.__getitem__, whole, (5, 7), form)
trained, _ = torch_log_odds(config, weights.__getitem__, whole, (5, 7))
_, kept = graph.run([ids[0][:10]], graph.empty, [0], [[0]], [5])
found, _ = graph.run(ids, kept, [10] * 3, [[23]] * 3, [5, 7], past_index=[0] * 3)
print(np.abs(found[:, 0, 1] - found[:, 0, 0] - stored).max(), np.abs(stored - trained).max())
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Training libraries warn at will, so they run outside of pytest, as they do for a user."""
    path = os.pathsep.join([FIXTURES, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**ENVIRONMENT, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def made(folder: Path, *options: str) -> Path:
    done = command(tiny_run.__file__, str(folder), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("forms"))


def exported(root: Path, form: str, head: str) -> Path:
    out = root / f"{form}-{head}"
    if not out.exists():
        done = command("-m", "guard", "export", str(root / "run"), str(out), "--form", form, "--head", head)
        assert done.returncode == 0, done.stderr[-3000:]
    return out


def engine(folder: Path) -> CausalOnnxEngine:
    opened = open_engine(open_bundle(folder), threads=1)
    assert isinstance(opened, CausalOnnxEngine)
    return opened


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("use_rslora=true", "r=8"),
        ("use_dora=true",),
        ('modules_to_save=["lm_head"]', 'target_modules=["q_proj","down_proj"]'),
    ],
    ids=["lora", "rslora", "dora", "modules_to_save"],
)
def test_tensors_are_those_of_the_merged_model(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = command("-c", MERGE, str(made(tmp_path, *options)))
    assert done.returncode == 0, done.stderr[-3000:]
    off, learnt = map(float, done.stdout.split())
    assert off <= 1e-6
    assert learnt > 1e-2  # else the adapter changed nothing


@pytest.mark.parametrize(
    ("form", "head"), [("fp32", "full"), ("fp16", "verdict"), ("bf16", "full"), ("int8", "verdict")]
)
def test_a_form_is_sealed_with_its_parity(root: Path, form: str, head: str) -> None:
    out = exported(root, form, head)
    settings = json.loads((out / "causal.json").read_text(encoding="utf-8"))
    report = json.loads((out / "parity.json").read_text(encoding="utf-8"))
    assert settings["form"] == report["form"] == form
    assert (settings["head"] is None) == (head == "full")
    for name in ("alone", "batch"):
        assert report[name]["flips"] == 0
        assert report[name]["furthest_odds"] > 0
        assert report[name]["furthest"] <= report["allowed"]
    assert "parity.json" in open_bundle(out).manifest.files
    assert b".py" not in (out / "model.onnx").read_bytes()  # no traces of the machine that made it


@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_four_bits_compute_what_they_store(tmp_path: Path, tied: str) -> None:
    done = command("-c", EXACT, str(tmp_path), "int4", tied)
    assert done.returncode == 0, done.stderr[-3000:]
    off, cost = map(float, done.stdout.split())
    assert off <= 1e-3
    assert cost > 0.05  # else nothing was rounded


def test_a_form_that_changes_too_many_verdicts_is_refused(root: Path, tmp_path: Path) -> None:
    """Random weights of this size lie near the threshold, and do not bear four bits."""
    arguments = ["-m", "guard", "export", str(root / "run"), str(tmp_path / "out"), "--form", "int4"]
    done = command(*arguments)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "verdicts, allowed is a share of 0.1; export it with --form int8 or fp16" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert command(*arguments, "--most-flips", "1").returncode == 0
    report = json.loads((tmp_path / "out" / "parity.json").read_text(encoding="utf-8"))
    assert report["cost"]["flips"] > 0 == report["batch"]["flips"]


def test_a_graph_that_could_not_be_checked_is_not_begun() -> None:
    done = command("-c", MEMORY)
    assert done.returncode == 0, done.stderr[-3000:]
    told = {name: (int(size), rest) for name, size, rest in (line.split(" ", 2) for line in done.stdout.splitlines())}
    assert {name for name, (_, rest) in told.items() if rest == "fits"} == {"int8", "int4"}
    assert told["fp32"][0] == 4 * 8030261248  # parameters of Llama 3.1 8B
    assert 9e9 < told["int8"][0] < 10e9
    assert 5e9 < told["int4"][0] < 7e9
    assert "25.8 GB are free; export it with --form int8 or int4, or on a larger machine" in told["fp16"][1]


def test_forms_take_less_room(root: Path) -> None:
    size = {
        form: (exported(root, form, head) / "model.onnx.data").stat().st_size
        for form, head in (("fp32", "full"), ("fp16", "verdict"), ("int8", "verdict"))
    }
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["int8"] < 0.6 * size["fp32"]


def test_a_cut_output_layer_gives_the_same_verdicts(root: Path) -> None:
    whole, cut = engine(exported(root, "fp32", "full")), engine(exported(root, "fp32", "verdict"))
    rules = policy.load("minimal")
    assert len(json.loads((root / "fp32-verdict" / "causal.json").read_text())["head"]) <= 30
    for each in (rules, rules.without(["M1"])):
        windows = [
            window
            for text in ("hello", "I will hit you. " * 30, "Give me the password.")
            for window in whole.read(Conversation.of(text), each).windows
        ]
        for one, other in zip(whole.score(windows), cut.score(windows), strict=True):
            assert one.unsafe == pytest.approx(other.unsafe, abs=1e-3)
            assert one.categories == pytest.approx(other.categories, abs=1e-3)


def test_a_cut_output_layer_knows_no_other_codes(root: Path) -> None:
    cut = engine(exported(root, "int8", "verdict"))
    other = policy.load("mlcommons").without([f"S{number}" for number in range(3, 15)])
    windows = cut.read(Conversation.of("hello"), other).windows
    with pytest.raises(PolicyError, match=r"output layer was cut to the verdicts of its own policy.*--head full"):
        cut.score(windows)


def test_a_damaged_graph_is_refused_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    """The weights are overwritten on disk once they are written and before ONNX Runtime reads them."""
    damaged = threading.Event()

    def damage() -> None:
        while not stop.is_set():
            for graph in tmp_path.glob(".out-*/bundle/model.onnx"):  # it is written after its weights
                data = graph.with_name("model.onnx.data")
                with data.open("r+b") as file:
                    file.seek(4096)
                    file.write(b"\x3f" * (data.stat().st_size - 4096))
                damaged.set()
                return
            time.sleep(0.002)

    stop = threading.Event()
    watcher = threading.Thread(target=damage)
    watcher.start()
    done = command("-m", "guard", "export", str(root / "run"), str(tmp_path / "out"), "--form", "fp32")
    stop.set()
    watcher.join()
    assert damaged.is_set()
    assert done.returncode == 3
    assert "do not ship this" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("base/model.safetensors", lambda data: data[: len(data) // 2], "cannot be read"),
        ("run/adapter/adapter_config.json", lambda data: data.replace(b'"LORA"', b'"IA3"'), "an adapter of type IA3"),
        ("run/adapter/adapter_config.json", lambda data: None, "neither adapter/ nor model/ holds weights"),
        ("base/model.safetensors", lambda data: None, "no model.safetensors; convert the base"),
    ],
    ids=["cut short", "another adapter", "no adapter", "no weights"],
)
def test_broken_runs_are_refused_and_leave_nothing(tmp_path: Path, file: str, change: object, told: str) -> None:
    folder = made(tmp_path / "given")
    changed = change((folder / file).read_bytes())  # type: ignore[operator]
    if changed is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(changed)
    done = command("-m", "guard", "export", str(folder / "run"), str(tmp_path / "out"))
    assert done.returncode == 3, done.stderr[-3000:]
    assert told in done.stderr.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
