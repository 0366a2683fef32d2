"""Real exports of a tiny random guard in each form: parity, the cut output layer, refusals that leave nothing."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard import policy
from guard.bundle import open_bundle
from guard.conversation import Conversation
from guard.engines.base import all_scores
from guard.engines.causal_onnx import CausalOnnxEngine
from guard.engines.registry import open_engine
from guard.errors import PolicyError
from tests.fixtures import tiny_run, warm

pytestmark = pytest.mark.slow

# What a bundle has to be is the model as peft calls it: is the export's own reference that, and are its merged weights?
ADAPTERS = """
import json, sys
import numpy as np, torch
from pathlib import Path
from peft import PeftModel
from tests.fixtures import tiny_run
from transformers import AutoModelForCausalLM
from guard.errors import BundleError
from guard.train.causal.merged import MergedWeights
from guard.train.causal.reference import stored_model, torch_log_odds
torch.set_num_threads(1)
ids = [torch.randint(5, 300, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (9, 30, 31)]
ids[0] += [12, 40]
told = {}
for name, (base, lora) in json.load(sys.stdin).items():
    folder = Path(sys.argv[1]) / name
    tiny_run.write_run(folder, base, **lora)
    plain = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).eval()
    def odds(model):
        with torch.no_grad():
            found = [torch.log_softmax(model(input_ids=torch.tensor([row])).logits[0, -1].double(), -1) for row in ids]
        return np.array([float(row[7] - row[5]) for row in found])
    before = odds(plain)
    trained = odds(PeftModel.from_pretrained(plain, str(folder / "run" / "adapter")).eval())
    try:
        weights = MergedWeights(str(folder / "base"), folder / "run" / "adapter")
    except BundleError as problem:
        told[name] = str(problem)
        continue
    merged, _ = torch_log_odds(stored_model(weights.config, weights.tensor), ids, (5, 7))
    called, _ = torch_log_odds(weights.called(), ids, (5, 7))
    told[name] = [float(np.abs(a - b).max()) for a, b in ((called, trained), (merged, trained), (before, trained))]
(Path(sys.argv[1]) / "told.json").write_text(json.dumps(told))
"""
FEW = {"target_modules": ["q_proj", "v_proj"]}
TIED = {"tie_word_embeddings": True}
FOLDED = {
    "lora": ({}, {}),
    "rslora": ({}, {"use_rslora": True, "r": 8}),
    "dora": ({}, {"use_dora": True}),
    "modules_to_save": ({}, {"modules_to_save": ["lm_head"], **FEW}),
    "lora_bias": ({"attention_bias": True}, {"lora_bias": True, **FEW}),
    "trained_tokens": ({}, {"trainable_token_indices": [5, 9, 12, 40, 77], **FEW}),
    "trained_tokens_tied": (TIED, {"trainable_token_indices": [5, 9, 12, 40, 77], **FEW}),
    "embedding": ({}, {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding_tied": (TIED, {"target_modules": ["embed_tokens", "q_proj"]}),
    "output_layer_tied": (TIED, {"modules_to_save": ["lm_head"], **FEW}),
}
REFUSED = {
    "bias": ({"attention_bias": True}, {"bias": "lora_only", **FEW}, "bias=lora_only: biases of the base cannot be"),
    "bias_without_one": ({}, {"lora_bias": True, **FEW}, "this layer of the base has no bias"),
    "replicated": (
        {},
        {"layer_replication": [[0, 2], [1, 2]], **FEW},
        "layer_replication: an adapter with this option",
    ),
    "invoked": ({}, {"alora_invocation_tokens": [12, 40], **FEW}, "alora_invocation_tokens: an adapter with this"),
}

# Exports of one run, as `guard export` in one process, so that forms of one arithmetic share their trace; then a merge
# that leaves out one layer, in the form that stores what was trained and in one that does not.
EXPORTS = """
import contextlib, io, json, sys
from pathlib import Path
from guard.calibration import Calibration, write
from guard.cli import main
from guard.errors import BundleError
from guard.train.causal.export import bundle_causal
from guard.train.causal.merged import MergedWeights
class Dropped(MergedWeights):
    def tensor(self, name):
        return self.base(name) if name == "model.layers.1.mlp.down_proj.weight" else super().tensor(name)
root, told = Path(sys.argv[1]), {}
for name, options in json.load(sys.stdin).items():
    (root / name).mkdir()
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            main(["export", str(root / "run"), str(root / name / "out"), *options])
    except SystemExit as ended:
        told[name] = [ended.code, err.getvalue()]
record = json.loads((root / "run" / "run.json").read_text())
for form in ("fp32", "bf16"):
    made = root / f"dropped-{form}"
    made.mkdir()
    write(Calibration(), made / "calibration.json")
    try:
        weights = Dropped(str(root / "base"), root / "run" / "adapter")
        bundle_causal(root / "run", record, made, form, weights=weights)
    except BundleError as problem:
        told[made.name] = [3, str(problem)]
(root / "told.json").write_text(json.dumps(told))
"""
FORMS = {
    "fp32-full": ["--form", "fp32"],
    "fp32-verdict": ["--form", "fp32", "--head", "verdict"],
    "fp16-verdict": ["--form", "fp16", "--head", "verdict"],
    "bf16-full": ["--form", "bf16", "--head", "full"],
    "int8-verdict": ["--form", "int8", "--head", "verdict"],
    "int4": ["--form", "int4", "--most-flips", "0"],
    "int4-whatever-it-costs": ["--form", "int4", "--most-flips", "1"],
    "damaged": ["--form", "fp32"],
}

# Families that do something to their logits behind the output layer: the graph against the model's own forward.
FAMILIES = """
import sys
import numpy as np, torch, transformers
from pathlib import Path
from guard.engines.causal_graph import CausalGraph
from guard.train.causal.graph import write_graph
from guard.train.causal.quantise import FORMS
kinds = {"Granite": {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
         "Cohere": {"logit_scale": 0.0625}}
for name, changes in kinds.items():
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, bos_token_id=0, eos_token_id=1, pad_token_id=None, **changes)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    out = Path(sys.argv[1]) / f"{name}.onnx"
    write_graph(config, model.state_dict().__getitem__, FORMS["fp32"], out)
    ids = torch.randint(2, 300, (2, 24))
    with torch.no_grad():
        wanted = torch.log_softmax(model(input_ids=ids).logits.double(), -1)[:, [10, 23], 5:8].numpy()
    graph = CausalGraph.open(out, 1)
    found, _ = graph.run(ids.tolist(), graph.empty, [0] * 2, [[10, 23]] * 2, [5, 6, 7], past_index=[0] * 2)
    print(np.abs(found - wanted).max())
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
from guard.train.causal.reference import stored_model, torch_log_odds
folder, form, tied = Path(sys.argv[1]), FORMS[sys.argv[2]], sys.argv[3] == "tied"
torch.manual_seed(0)
config = LlamaConfig(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=tied)
weights = LlamaForCausalLM(config).state_dict()
write_graph(config, weights.__getitem__, form, folder / "model.onnx")
graph = CausalGraph.open(folder / "model.onnx", 1)
ids = torch.randint(0, 300, (3, 24)).tolist()
whole = [[*ids[0][:10], *row] for row in ids]
stored, _ = torch_log_odds(stored_model(config, weights.__getitem__, form), whole, (5, 7))
trained, _ = torch_log_odds(stored_model(config, weights.__getitem__), whole, (5, 7))
_, kept = graph.run([ids[0][:10]], graph.empty, [0], [[0]], [5])
found, _ = graph.run(ids, kept, [10] * 3, [[23]] * 3, [5, 7], past_index=[0] * 3)
print(np.abs(found[:, 0, 1] - found[:, 0, 0] - stored).max(), np.abs(stored - trained).max())
"""


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Training libraries warn at will, so they run outside of pytest, as they do for a user."""
    return warm.python(*arguments, given=given)


def made(folder: Path, *options: str) -> Path:
    done = command(tiny_run.__file__, str(folder), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@dataclass(frozen=True)
class Exports:
    """A run, what was exported from it (`root`/NAME/out), and the exit code and the stderr of each export."""

    root: Path
    told: dict[str, tuple[int, str]]
    damaged: bool

    def sealed(self, name: str) -> Path:
        assert self.told[name][0] == 0, self.told[name][1]
        return self.root / name / "out"


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    root = made(tmp_path_factory.mktemp("forms"))
    stop, damaged = threading.Event(), threading.Event()

    def damage() -> None:
        """Overwrites the weights of one export once they are written and before ONNX Runtime reads them."""
        while not stop.is_set():
            for graph in root.glob("damaged/.out-*/bundle/model.onnx"):  # it is written after its weights
                data = graph.with_name("model.onnx.data")
                with data.open("r+b") as file:
                    file.seek(4096)
                    file.write(b"\x3f" * (data.stat().st_size - 4096))
                damaged.set()
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=damage)
    watcher.start()
    done = command("-c", EXPORTS, str(root), given=json.dumps(FORMS))
    stop.set()
    watcher.join()
    assert done.returncode == 0, done.stderr[-3000:]
    return Exports(root, json.loads((root / "told.json").read_text(encoding="utf-8")), damaged.is_set())


def engine(folder: Path) -> CausalOnnxEngine:
    opened = open_engine(open_bundle(folder), threads=1)
    assert isinstance(opened, CausalOnnxEngine)
    return opened


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("adapters")
    cases = FOLDED | {name: (base, lora) for name, (base, lora, _) in REFUSED.items()}
    done = command("-c", ADAPTERS, str(folder), given=json.dumps(cases))
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("name", FOLDED)
def test_an_adapter_is_folded_in_as_peft_calls_it(adapters: dict[str, Any], name: str) -> None:
    called, merged, learnt = adapters[name]
    assert called <= 1e-4
    assert merged <= 1e-4
    assert learnt > 1e-2  # else the adapter changed nothing


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_in_is_refused(adapters: dict[str, Any], name: str) -> None:
    assert REFUSED[name][2] in adapters[name]
    assert "\n" not in adapters[name]


def test_a_merge_that_drops_a_layer_is_not_sealed(exports: Exports) -> None:
    exact, rounded = (exports.told[f"dropped-{form}"][1] for form in ("fp32", "bf16"))
    assert exact.startswith("torch and ONNX (fp32, alone): probabilities differ by")
    assert rounded.startswith("the trained model and its merged weights: probabilities differ by")


def test_a_graph_does_to_its_logits_what_the_model_does(tmp_path: Path) -> None:
    done = command("-c", FAMILIES, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert [float(off) < 1e-4 for off in done.stdout.split()] == [True, True]


@pytest.mark.parametrize(
    ("form", "head"), [("fp32", "full"), ("fp16", "verdict"), ("bf16", "full"), ("int8", "verdict")]
)
def test_a_form_is_sealed_with_its_parity(exports: Exports, form: str, head: str) -> None:
    out = exports.sealed(f"{form}-{head}")
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


@pytest.mark.parametrize(("form", "tied"), [("int4", "tied"), ("int4", "untied"), ("int8", "tied")])
def test_integers_compute_what_they_store(tmp_path: Path, form: str, tied: str) -> None:
    done = command("-c", EXACT, str(tmp_path), form, tied)
    assert done.returncode == 0, done.stderr[-3000:]
    off, cost = map(float, done.stdout.split())
    assert off <= 1e-3
    assert cost > 0.05  # else nothing was rounded


def test_a_form_that_changes_too_many_verdicts_is_refused(exports: Exports) -> None:
    """Random weights of this size lie near the threshold, where four bits change a verdict."""
    code, err = exports.told["int4"]
    assert code == 3, err
    assert "verdicts, allowed is a share of 0; export it with --form int8 or fp16" in err
    assert list((exports.root / "int4").iterdir()) == []
    report = json.loads((exports.sealed("int4-whatever-it-costs") / "parity.json").read_text(encoding="utf-8"))
    assert report["cost"]["flips"] > 0 == report["batch"]["flips"]


def test_a_graph_that_could_not_be_checked_is_not_begun() -> None:
    done = command("-c", MEMORY)
    assert done.returncode == 0, done.stderr[-3000:]
    told = {name: (int(size), rest) for name, size, rest in (line.split(" ", 2) for line in done.stdout.splitlines())}
    assert {name for name, (_, rest) in told.items() if rest == "fits"} == {"int8", "int4"}
    assert told["fp32"][0] == 4 * 8030261248  # parameters of Llama 3.1 8B
    assert 8e9 < told["int8"][0] < 8.2e9
    assert told["int4"][0] == told["int8"][0]  # four bits are of the file alone
    assert "25.8 GB are free; export it with --form int8 or int4, or on a larger machine" in told["fp16"][1]


def test_forms_take_less_room(exports: Exports) -> None:
    size = {
        form: (exports.sealed(f"{form}-{head}") / "model.onnx.data").stat().st_size
        for form, head in (("fp32", "full"), ("fp16", "verdict"), ("int8", "verdict"))
    }
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["int8"] < 0.6 * size["fp32"]


def test_a_cut_output_layer_gives_the_same_verdicts(exports: Exports) -> None:
    whole, cut = engine(exports.sealed("fp32-full")), engine(exports.sealed("fp32-verdict"))
    rules = policy.load("minimal")
    assert len(json.loads((exports.sealed("fp32-verdict") / "causal.json").read_text())["head"]) <= 30
    for each in (rules, rules.without(["M1"])):
        windows = [
            window
            for text in ("hello", "I will hit you. " * 30, "Give me the password.")
            for window in whole.tokenize(Conversation.of(text), each).windows
        ]
        for one, other in zip(all_scores(whole, windows), all_scores(cut, windows), strict=True):
            assert one.unsafe == pytest.approx(other.unsafe, abs=1e-3)
            assert one.categories == pytest.approx(other.categories, abs=1e-3)


def test_a_cut_output_layer_knows_no_other_codes(exports: Exports) -> None:
    cut = engine(exports.sealed("int8-verdict"))
    other = policy.load("mlcommons").without([f"S{number}" for number in range(3, 15)])
    with pytest.raises(PolicyError, match=r"output layer was cut to the verdicts of its own policy.*--head full"):
        cut.tokenize(Conversation.of("hello"), other)


def test_a_damaged_graph_is_refused_and_leaves_nothing(exports: Exports) -> None:
    assert exports.damaged
    code, err = exports.told["damaged"]
    assert code == 3
    assert "do not ship this" in err
    assert list((exports.root / "damaged").iterdir()) == []


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
