"""The loss of a verdict: what is learnt reaches the output layer, and nothing else does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # trl, peft and transformers take half a minute to import
torch, trainer = lazy("torch"), lazy("guard.train.causal.trainer")

ROWS, TOKENS, WIDTH = 3, 6, 4


@given(st.lists(st.booleans(), min_size=ROWS * (TOKENS - 1), max_size=ROWS * (TOKENS - 1)))
def test_each_learnt_token_is_predicted_from_the_state_before_it(marks: list[bool]) -> None:
    learnt = torch.tensor(marks).reshape(ROWS, TOKENS - 1)
    states = torch.arange(ROWS * TOKENS * WIDTH, dtype=torch.float32).reshape(ROWS, TOKENS, WIDTH)
    found: Any = SimpleNamespace(last_hidden_state=states)
    alone = trainer.learnt_alone(learnt, None, None, found).last_hidden_state
    before = [states[row, at] for row in range(ROWS) for at in range(TOKENS - 1) if learnt[row, at]]
    assert alone.shape == (1, sum(marks) + 1, WIDTH)
    assert all(torch.equal(kept, state) for kept, state in zip(alone[0], before, strict=False))


def test_the_first_learnt_token_of_each_row_is_weighted() -> None:
    nothing = trainer.IGNORED
    labels = torch.tensor([[nothing, nothing, 5, 6, 7], [nothing, 4, nothing, 3, 2]])
    assert trainer.first_token_weights(labels, 2.5).tolist() == [[1, 2.5, 1, 1], [2.5, 1, 1, 1]]
