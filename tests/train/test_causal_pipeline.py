"""The whole causal path: a tiny random model is fine-tuned, exported, opened, and answers what it has learnt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_causal

from guard import assets, schema
from guard.bundle import open_bundle
from guard.conversation import Conversation, conversation_from_row
from guard.moderator import Moderator, open_moderator
from guard.prompt import TEMPLATE_DIGEST, Prompt
from guard.verdict import Outcome, sigmoid

SAFE = [
    "bake bread",
    "plant roses",
    "mend a chair",
    "draw a cat",
    "take the train",
    "write a poem",
    "cook soup",
    "fold paper",
]
THREATS = ["hit you", "hurt you", "push you", "kick you"]
SECRETS = ["password", "access code", "secret key", "login"]


def rows() -> list[dict[str, object]]:
    made = []
    for number in range(4):
        for text in SAFE:
            made.append((f"Please tell me how to {text}, number {number}.", "safe", []))
        for text in THREATS:
            made.append((f"I will {text} today, number {number}.", "unsafe", ["M1"]))
        for text in SECRETS:
            made.append((f"Give me the {text} of Mr {number}.", "unsafe", ["M2"]))
    return [
        {
            "id": str(index),
            "messages": [{"role": "user", "content": text}],
            "label": label,
            "categories": codes,
            "categories_known": True,
            "source": "made up",
            "licence": "Apache-2.0",
            "language": "en",
            "kind": "prompt",
            "weight": 1.0,
        }
        for index, (text, label, codes) in enumerate(made)
    ]


def python(*arguments: str) -> str:
    """Training libraries warn at will, so they run outside of pytest, as they do for a user."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("causal")
    python(tiny_causal.__file__, str(folder / "base"))
    data = folder / "data"
    data.mkdir()
    parquet.write_table(arrow.Table.from_pylist(rows()), data / "train.parquet")
    (data / "manifest.json").write_text("{}", encoding="utf-8")
    told = python(
        "-P",
        str(assets.asset("training/recipes/sft.py")),
        str(assets.asset("training/configs/cpu-tiny.yaml")),
        f"base={folder / 'base'}",
        f"data={data}",
        f"out={folder / 'run'}",
    )
    assert "kept 64 of 64 rows as 64 windows" in told
    assert "of the first row the loss sees 'safe<|eot_id|>'" in told
    return folder / "run"


@pytest.fixture(scope="module")
def moderator(run: Path) -> Moderator:
    bundle = run.parent / "bundle"
    code = "import sys, pathlib; from guard.train.export import export; export(*map(pathlib.Path, sys.argv[1:]))"
    python("-c", code, str(run), str(bundle))
    return open_moderator(bundle)


@pytest.mark.slow
def test_the_run_learns_and_tells_what_made_it(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    metrics = record["metrics"]
    assert metrics["last_loss"] < metrics["first_loss"] / 4
    assert metrics["tokens_per_s"] > 0
    assert record["kind"] == "causal"
    assert record["renderer"] == TEMPLATE_DIGEST
    assert record["config"]["trainer"]["learning_rate"] == pytest.approx(1e-2)
    assert {path.name for path in run.iterdir()} >= {"adapter", "tokenizer.json", "policy.yaml", "run.json"}
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_bundle_answers_what_was_learnt(moderator: Moderator) -> None:
    learnt = rows()
    verdicts = moderator.moderate([conversation_from_row(row) for row in learnt])
    right = [
        verdict.flagged == tuple(row["categories"])  # type: ignore[arg-type]
        for row, verdict in zip(learnt, verdicts, strict=True)
    ]
    assert sum(right) >= 60
    assert {verdict.outcome for verdict in verdicts} == {Outcome.SAFE, Outcome.UNSAFE}


@pytest.mark.slow
def test_the_bundle_is_sealed_with_its_parity(moderator: Moderator, run: Path) -> None:
    manifest = open_bundle(run.parent / "bundle").manifest
    assert manifest.kind == "causal"
    assert manifest.base == "base"
    assert 0 < manifest.parity["torch_vs_onnx_alone"] <= 4e-3
    assert 0 < manifest.parity["torch_vs_onnx_batch"] <= 4e-3
    graph = (run.parent / "bundle" / "model.onnx").read_bytes()
    assert b".py" not in graph  # no traces of the machine that made it


@pytest.mark.slow
def test_scores_do_not_depend_on_the_batch(moderator: Moderator) -> None:
    texts = [
        "hello",
        "I will hit you. " * 40,
        "Give me the login of Mr 9.",
        *(f"Please tell me how to {t}." for t in SAFE),
    ]
    plans = [moderator.plan(Conversation.of(text)) for text in texts]
    windows = [window for plan in plans for window in plan.reading.windows]
    together = moderator.engine.score(windows)
    for window, score in zip(windows, together, strict=True):
        alone = moderator.engine.score([window])[0]
        pairs = zip((alone.unsafe, *alone.categories), (score.unsafe, *score.categories), strict=True)
        assert all(abs(sigmoid(one) - sigmoid(other)) <= 1e-3 for one, other in pairs)


@pytest.mark.slow
def test_an_option_that_the_trainer_lacks_is_an_error(run: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            str(assets.asset("training/recipes/sft.py")),
            str(assets.asset("training/configs/cpu-tiny.yaml")),
            f"base={run.parent / 'base'}",
            f"data={run.parent / 'data'}",
            f"out={run.parent / 'other'}",
            "trainer.lerning_rate=1e-3",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "trainer.lerning_rate is no option of SFTConfig; did you mean learning_rate?" in done.stderr


@pytest.mark.parametrize("name", ["cpu-tiny", "lora-1gpu", "lora-24gb"])
def test_shipped_configs_hold_what_the_recipe_reads(name: str) -> None:
    text = assets.asset(f"training/configs/{name}.yaml").read_text(encoding="utf-8")
    plain, _ = schema.parse(text, name)
    keys = {"recipe", "base", "policy", "data", "out", "detail", "max_tokens", "overlap", "seed", "lora", "trainer"}
    assert plain["recipe"] == "sft"
    assert keys <= set(plain) <= keys | {"partial_policy", "qlora", "least_label_mass"}


def test_the_tiny_tokenizer_splits_the_words_as_real_ones_do(tmp_path: Path) -> None:
    tiny_causal.tokenizer().save(str(tmp_path / "tokenizer.json"))
    prompt = Prompt.load(tmp_path / "tokenizer.json", 512, 16)
    assert len(prompt.safe) == 1
    assert len(prompt.unsafe) > 1
