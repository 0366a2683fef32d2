"""What trainers are given: the supervised tokens and no others, padded at the end, and the losses that are ours."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from guard.reward.supervision import Item
from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # torch and TRL take seconds to import

torch = lazy("torch")
trainers = lazy("guard.reward.trainers")

ITEM = Item((1, 2), (3, 4), (5,), (6, 7, 8), label=False, margin=2.0, values=(1.5, None))


def test_each_trainer_gets_its_columns():
    def row(kind):
        return trainers.dataset(kind, [ITEM])[0]

    assert row("sft") == {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]}
    assert row("dpo") == {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}
    assert row("kto") == {"prompt_ids": [1, 2], "completion_ids": [3, 4], "label": False}
    assert row("bradley-terry") == {"chosen_ids": [1, 2, 3, 4], "rejected_ids": [1, 2, 5], "margin": 2.0}
    rated = row("attributes")
    assert rated["input_ids"] == [1, 2, 3, 4]
    assert rated["values"][0] == 1.5
    assert math.isnan(rated["values"][1])
    critic = row("critic")
    assert critic["ids"] == [[1, 2, 3, 4], [6, 7, 8, 5]]
    assert critic["labels"] == [[-100, -100, 3, 4], [-100, -100, -100, 5]]


def test_batches_are_padded_at_the_end():
    other = Item((1,), (2,), (3,), (4,), values=(0.0, 1.0))
    batch = trainers.attribute_batch(list(trainers.dataset("attributes", [ITEM, other])), pad=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [1, 2, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    review = trainers.review_batch(list(trainers.dataset("critic", [ITEM, other])), pad=9)
    assert review["input_ids"].tolist() == [[1, 2, 3, 4], [1, 2, 9, 9], [6, 7, 8, 5], [4, 3, 9, 9]]
    assert review["labels"][1].tolist() == [-100, 2, -100, -100]
    assert review["last"].tolist() == [3, 1, 3, 1]


def test_the_margin_scales_the_loss_of_a_pair():
    def model(**_):
        return SimpleNamespace(logits=torch.tensor([[2.0], [0.0], [1.0], [1.0]]))

    loss = trainers.ScaledBradleyTerry.compute_loss(None, model, {"margin": torch.tensor([3.0, 1.0])})
    expected = (3 * math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2
    assert float(loss) == pytest.approx(expected)


def test_unknown_attributes_cost_nothing():
    def model(**_):
        return SimpleNamespace(logits=torch.tensor([[1.0, 5.0], [2.0, 0.0]]))

    values = torch.tensor([[0.0, torch.nan], [2.0, 1.0]])
    loss = trainers.Attributes.compute_loss(None, model, {"values": values})
    assert float(loss) == pytest.approx((1 + 0 + 1) / 3)
