"""Held-out rows while a causal guard trains: the verdict's logits at the last position, whatever the padding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from guard import policy
from guard.conversation import Conversation, Example
from guard.errors import DataError
from guard.prompts.prompt import Prompt, load_prompt
from tests.fixtures import tiny_causal
from tests.fixtures.lazy import lazy

torch, scores = lazy("torch"), lazy("guard.train.causal.dev_eval")

RULES = policy.load("minimal")


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_causal.tokenizer().save(str(path))
    return load_prompt(path, 900, 64, "names")


class Heard:
    """What a listener remembers of a prefix."""

    def __init__(self, words: Any) -> None:
        self.words = words

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.words = self.words.repeat_interleave(repeats, dim=0)


def listener(vocabulary: int) -> Any:
    """A model whose logits depend on every attended token and on its position, and on nothing else."""

    class Listener(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.words = torch.nn.Embedding(vocabulary, vocabulary)

        def forward(
            self,
            input_ids: Any,
            logits_to_keep: int,
            use_cache: bool,
            attention_mask: Any = None,
            position_ids: Any = None,
            past_key_values: Any = None,
        ) -> Any:
            before = 0 if past_key_values is None else past_key_values.words.shape[1]
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, before:]
            places = torch.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
            heard = self.words(input_ids) * (mask * (1 + 0.01 * places))[..., None]
            if past_key_values is not None:
                heard = torch.cat([past_key_values.words, heard], 1)
            return SimpleNamespace(logits=heard.cumsum(1)[:, -logits_to_keep:], past_key_values=Heard(heard))

    return Listener()


def example(number: int, text: str, *codes: str) -> Example:
    label = "unsafe" if codes else "safe"
    return Example(str(number), Conversation.of(text), label, frozenset(codes), "s", "l", "en", "prompt", "dev")  # type: ignore[arg-type]


@pytest.mark.parametrize("share_prefix", [True, False])
def test_a_score_is_that_of_the_prompt_alone_and_of_the_words_first_tokens(prompt: Prompt, share_prefix: bool) -> None:
    size = prompt.chat.tokenizer.get_vocab_size()
    model, generator = listener(size), np.random.default_rng(0)
    asked = [tuple(map(int, generator.integers(0, size, length))) for length in (3, 17, 9)]
    prefix = tuple(map(int, generator.integers(0, size, 5)))
    together = scores.score_verdicts(model, prefix, asked, prompt, "cpu", share_prefix)
    for index, ids in enumerate((*prefix, *window) for window in asked):
        place = 1 + 0.01 * torch.arange(len(ids))
        logits = (model.words(torch.tensor(ids)) * place[:, None]).sum(0).detach().double()
        odds = float(logits[prompt.unsafe[0]] - logits[prompt.safe[0]])
        mass = float(logits.softmax(0)[[prompt.safe[0], prompt.unsafe[0]]].sum())
        assert together.odds[index] == pytest.approx(odds, abs=1e-4)
        assert together.mass[index] == pytest.approx(mass, rel=1e-3, abs=1e-12)


def test_a_row_is_ranked_by_its_worst_window() -> None:
    judged = [scores.DevRow(True, ((1,), (2,), (3,))), scores.DevRow(False, ((4,),)), scores.DevRow(False, ((5,),))]
    mass = np.full(5, 0.5)
    best = scores.ranking(judged, scores.VerdictScores(np.array([-9.0, 4.0, -9.0, 3.0, 1.0]), mass))
    assert best == {"auprc": 1.0, "auroc": 1.0, "best_f1": 1.0, "label_mass": 0.5}
    worse = scores.ranking(judged, scores.VerdictScores(np.array([-9.0, 2.0, -9.0, 3.0, 1.0]), mass))
    assert worse["auprc"] == 0.5
    assert worse["auroc"] == 0.5


def test_prompts_and_responses_are_ranked_by_themselves_as_well() -> None:
    kinds = ("prompt", "prompt", "response", "response")
    judged = [scores.DevRow(n % 2 == 0, ((n,),), kind) for n, kind in enumerate(kinds)]
    found = scores.ranking(judged, scores.VerdictScores(np.array([2.0, 1.0, 3.0, 4.0]), np.full(4, 0.5)))
    assert (found["auprc_prompt"], found["auprc_response"]) == (1.0, 0.5)


def test_the_sample_is_fixed_and_has_all_windows_of_its_rows(prompt: Prompt) -> None:
    rows = [
        example(n, f"Message {n}. " + "All is calm. " * (n % 3) * 60, *(["M1"] if n % 4 == 0 else []))
        for n in range(40)
    ]
    first = scores.dev_sample(rows, prompt, RULES, 12, 7, "data")
    assert first == scores.dev_sample(rows, prompt, RULES, 12, 7, "data")
    assert first != scores.dev_sample(rows, prompt, RULES, 12, 8, "data")
    assert len(first) == 12
    assert len(scores.dev_sample(rows, prompt, RULES, 99, 7, "data")) == 40
    assert max(len(row.windows) for row in first) > 1
    assert all(len(ids) <= 900 for row in first for ids in row.windows)
    assert {row.unsafe for row in scores.dev_sample(rows, prompt, RULES, 2, 3, "data")} == {True, False}


def test_dev_rows_of_one_label_are_an_error_that_tells_what_to_do(prompt: Prompt) -> None:
    foreign = dataclasses.replace(example(1, "A canary.", "X9"))
    with pytest.raises(DataError, match=r"data: its 1 dev rows are not of both labels.*dev_rows=0") as raised:
        scores.dev_sample([example(0, "Hello."), foreign], prompt, RULES, 9, 7, "data")
    assert "canary" not in str(raised.value)


def test_the_plot_is_an_image_that_replaces_the_one_before(tmp_path: Path) -> None:
    from guard.train.common import plot

    history = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    plot.draw_history(history, tmp_path / "history.png")
    before = (tmp_path / "history.png").read_bytes()
    plot.draw_history([*history, {"step": 4, "eval_auprc": 0.4, "eval_auroc": 0.5}], tmp_path / "history.png")
    after = (tmp_path / "history.png").read_bytes()
    assert before.startswith(b"\x89PNG")
    assert after.startswith(b"\x89PNG")
    assert before != after
    assert [path.name for path in tmp_path.iterdir()] == ["history.png"]
