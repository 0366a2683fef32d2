"""The loss of a group: what is learnt reaches the output layer alone, and a shared prefix changes no gradient."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.train.causal.attention import shares_prefix, use_shared_prefix
from guard.train.causal.group import Group
from guard.train.causal.rows import IGNORED
from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # trl, peft and transformers take half a minute to import
torch, transformers = lazy("torch"), lazy("transformers")
step, trainer = lazy("guard.train.causal.step"), lazy("guard.train.causal.trainer")

ROWS, TOKENS, WIDTH = 3, 6, 4
KINDS = {
    "llama": {"num_key_value_heads": 2},
    "gemma2": {"head_dim": 8, "num_key_value_heads": 1, "sliding_window": 6},
    "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
}


@given(st.lists(st.booleans(), min_size=ROWS * (TOKENS - 1), max_size=ROWS * (TOKENS - 1)))
def test_each_learnt_token_is_predicted_from_the_state_before_it(marks: list[bool]) -> None:
    learnt = torch.tensor(marks).reshape(ROWS, TOKENS - 1)
    states = torch.arange(ROWS * TOKENS * WIDTH, dtype=torch.float32).reshape(ROWS, TOKENS, WIDTH)
    found: Any = SimpleNamespace(last_hidden_state=states)
    alone = step.learnt_alone(learnt, None, None, found).last_hidden_state
    before = [states[row, at] for row in range(ROWS) for at in range(TOKENS - 1) if learnt[row, at]]
    assert alone.shape == (1, sum(marks), WIDTH)
    assert all(torch.equal(kept, state) for kept, state in zip(alone[0], before, strict=True))


def test_the_first_learnt_token_of_each_row_is_weighted() -> None:
    labels = torch.tensor([[IGNORED, IGNORED, 5, 6, 7], [IGNORED, 4, IGNORED, 3, 2]])
    assert step.first_token_weights(labels, 2.5).tolist() == [[1, 2.5, 1, 1], [2.5, 1, 1, 1]]


def group(seed: int = 0) -> Group:
    rng = random.Random(seed)
    words = lambda count: tuple(rng.randrange(64) for _ in range(count))  # noqa: E731
    return Group(words(9), tuple((words(rng.randint(1, 12)), words(rng.randint(1, 3))) for _ in range(5)))


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=128, tie_word_embeddings=True, **KINDS[kind],
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).double()


def gradients(model: Any, share: bool) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    found = step.verdict_loss(model, model.base_model, step.tensors(group(), 0), share, 2.0)
    found.tokens.sum().backward()
    return found.tokens.detach(), {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])  # that it would be trained on
def test_a_shared_prefix_has_the_loss_and_the_gradients_of_whole_prompts(kind: str, device: str) -> None:
    model = tiny(kind).train()
    alone = gradients(model, False)
    assert use_shared_prefix(model, device) == shares_prefix(model) == (device == "cpu" and kind != "gemma2")
    together = gradients(model, True)
    torch.testing.assert_close(together[0], alone[0], rtol=1e-5, atol=1e-6)
    assert together[1].keys() == alone[1].keys()
    for name, gradient in alone[1].items():
        torch.testing.assert_close(together[1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)  # norms are in fp32


def test_the_loss_is_that_of_each_whole_prompt_by_itself() -> None:
    model, made = tiny("llama").eval(), group(1)
    found = step.verdict_loss(model, model.base_model, step.tensors(made, 0), True, 1.0)
    expected = []
    for asked, verdict in made.rows:
        logits = model(torch.tensor([[*made.prefix, *asked, *verdict]])).logits[0].log_softmax(-1)
        start = len(made.prefix) + len(asked) - 1
        expected += [-logits[start + at, token] for at, token in enumerate(verdict)]
    torch.testing.assert_close(
        found.tokens, torch.stack(expected).float(), rtol=1e-5, atol=1e-6
    )  # cross-entropy is in fp32


def test_the_tensors_of_a_group_hold_its_rows_and_learn_the_verdicts() -> None:
    made = group(2)
    given = step.tensors(made, 63)
    assert given["prefix"].tolist() == [list(made.prefix)]
    assert int(given["mask"].sum()) + len(made.prefix) == made.tokens
    for ids, labels, mask, (asked, verdict) in zip(
        given["input_ids"], given["labels"], given["mask"], made.rows, strict=True
    ):
        assert ids[mask].tolist() == [*asked, *verdict]
        assert set(ids[~mask].tolist()) <= {63}
        assert labels[labels != IGNORED].tolist() == list(verdict)
        assert labels[: len(asked)].tolist() == [IGNORED] * len(asked)


def test_frozen_layers_and_the_embeddings_do_not_learn() -> None:
    model = tiny("llama")
    trainer.freeze(model, 2)
    gradients(model, True)
    learning = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert all(name.startswith(("model.layers.2.", "model.norm.")) for name in learning)
    assert len(learning) == 10


def test_what_is_frozen_is_kept_in_bf16_where_it_is_computed_in_bf16() -> None:
    torch, model = trainer.torch, tiny("llama").float()
    trainer.freeze(model, 2, narrow=True)
    narrow = {name for name, weight in model.named_parameters() if weight.dtype is torch.bfloat16}
    assert narrow == {name for name, weight in model.named_parameters() if not weight.requires_grad}
    given = step.tensors(group(1), 0)
    with torch.autocast("cpu", torch.bfloat16):
        step.verdict_loss(model, model.model, given, True, 1.0).tokens.sum().backward()
    assert {weight.grad.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_the_labels_of_a_batch_count_what_its_groups_learn() -> None:
    batch = (group(1), group(2))
    given = step.collated([batch], 0)
    assert len(given["groups"]) == 2
    learnt = sum(int((each["labels"] != IGNORED).sum()) for each in given["groups"])
    assert int((given["labels"][1:] != IGNORED).sum()) == len(given["labels"]) - 1 == learnt
