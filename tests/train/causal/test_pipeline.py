"""The whole causal path: a tiny random model is fine-tuned, exported, opened, and answers what it has learnt."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from guard.bundle import open_bundle
from guard.conversation import Conversation, conversation_from_row
from guard.moderator import Moderator, open_moderator
from guard.prompts.causal import template
from guard.prompts.prompt import load_prompt
from guard.verdict import Outcome, sigmoid
from tests.fixtures import tiny_causal, tiny_sft


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("causal")
    tiny_sft.write_base(folder / "base")
    tiny_sft.write_data(folder / "data")
    done = tiny_sft.train(folder, "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kept 64 of 64 rows" in done.stdout
    assert "an epoch makes 64 draws; 0 rows need windows" in done.stdout
    assert re.search(r"of the first row the loss sees '(safe|unsafe\\n\w+)<\|eot_id\|>'", done.stdout)
    assert "step 60/60 dev auprc" in done.stdout
    return folder / "run"


@pytest.fixture(scope="module")
def moderator(run: Path) -> Moderator:
    bundle = run.parent / "bundle"
    code = "import sys, pathlib; from guard.train.export import export; export(*map(pathlib.Path, sys.argv[1:]))"
    tiny_sft.python("-c", code, str(run), str(bundle))
    return open_moderator(bundle)


@pytest.mark.slow
def test_the_run_learns_and_tells_what_made_it(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    metrics = record["metrics"]
    assert metrics["last_loss"] < metrics["first_loss"] / 4
    assert metrics["best_auprc"] > 0.99
    assert metrics["best_step"] in (20, 40, 60)
    assert metrics["tokens_per_s"] > 0
    assert record["kind"] == "causal"
    assert record["renderer"] == template().digest
    assert record["rows"] == {"read": 64, "foreign": 0, "weightless": 0, "draws": 64, "dev": 64}
    assert 0 < record["trained_parameters"] < record["parameters"]
    assert record["config"]["trainer"]["learning_rate"] == pytest.approx(1e-2)
    assert record["config"]["augmentation"]["drop"] == pytest.approx(0.1)
    names = {
        ".lock",
        "adapter",
        "tokenizer.json",
        "policy.yaml",
        "run.json",
        "started.json",
        "history.png",
        "checkpoints",
    }
    assert {path.name for path in run.iterdir()} == names
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert (run / "history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_weights_kept_are_those_of_the_best_checkpoint(run: Path) -> None:
    best = json.loads((run / "run.json").read_text(encoding="utf-8"))["metrics"]["best_step"]
    kept, saved = (
        (folder / "adapter_model.safetensors").read_bytes()
        for folder in (run / "adapter", run / "checkpoints" / f"checkpoint-{best}")
    )
    assert kept == saved


@pytest.mark.slow
def test_the_bundle_answers_what_was_learnt(moderator: Moderator) -> None:
    learnt = tiny_sft.rows()
    verdicts = moderator.moderate([conversation_from_row(row) for row in learnt])
    right = [verdict.flagged == tuple(row["categories"]) for row, verdict in zip(learnt, verdicts, strict=True)]
    assert sum(right) >= 60
    assert {verdict.outcome for verdict in verdicts} == {Outcome.SAFE, Outcome.UNSAFE}


@pytest.mark.slow
def test_the_bundle_is_sealed_with_its_parity(moderator: Moderator, run: Path) -> None:
    manifest = open_bundle(run.parent / "bundle").manifest
    assert manifest.kind == "causal"
    assert manifest.base == "base"
    assert manifest.parity
    graph = (run.parent / "bundle" / "model.onnx").read_bytes()
    assert b".py" not in graph  # no traces of the machine that made it


@pytest.mark.slow
def test_scores_do_not_depend_on_the_batch(moderator: Moderator) -> None:
    texts = [
        "hello",
        "I will hit you. " * 40,
        "Give me the login of Mr 9.",
        *(f"Please tell me how to {t}." for t in tiny_sft.SAFE),
    ]
    chats = [Conversation.of(text) for text in texts]
    windows = [window for chat in chats for window in moderator.engine.tokenize(chat, moderator.policy).windows]
    together = moderator.engine.score(windows)
    for window, score in zip(windows, together, strict=True):
        alone = moderator.engine.score([window])[0]
        pairs = zip((alone.unsafe, *alone.categories), (score.unsafe, *score.categories), strict=True)
        assert all(abs(sigmoid(one) - sigmoid(other)) <= 1e-3 for one, other in pairs)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(run: Path) -> None:
    before = (run / "run.json").read_bytes()
    done = tiny_sft.train(run.parent, "run")
    assert done.returncode == 0
    assert "is finished already" in done.stdout
    assert (run / "run.json").read_bytes() == before


def test_the_tiny_tokenizer_splits_the_words_as_real_ones_do(tmp_path: Path) -> None:
    tiny_causal.tokenizer().save(str(tmp_path / "tokenizer.json"))
    prompt = load_prompt(tmp_path / "tokenizer.json", 512, 16)
    assert len(prompt.safe) == 1
    assert len(prompt.unsafe) > 1
