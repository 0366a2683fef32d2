"""Training on rows that bring their own rules: each row answers for its own rules alone."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from guard.conversation import Conversation, Example
from guard.policy import Category, Policy
from guard.prompts.encoder import EncoderInput
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import benign
from guard.train.encoder.rules import RuleRow, RuleSample, rule_loss, rule_samples, rule_texts
from tests.fixtures import tiny_encoder

DOGS, SHOES, NOISE = (Category("R1", name, f"Do not bring {name}.") for name in ("dogs", "shoes", "noise"))
PLAIN = Augmentation(
    refused=0, tool=0, history=0, mistyping=0, obfuscation=0, padding=0, injection=0, document_context=0
)


def policy(*rules: Category) -> Policy:
    numbered = tuple(Category(f"R{place}", rule.name, rule.definition) for place, rule in enumerate(rules, 1))
    return Policy("rules", "1", "Garden", numbered)


def row(text: str, rules: Policy, broken: str | None, weight: float = 1.0) -> RuleRow:
    example = Example(
        id=text,
        conversation=Conversation.of(text),
        label="unsafe" if broken else "safe",
        categories=frozenset({broken} if broken else ()),
        source="made up",
        licence="CC0-1.0",
        language="en",
        kind="text",
        weight=weight,
    )
    return example, rules


ROWS = [
    row("my dog is with me", policy(DOGS), "R1"),
    row("my dog sings", policy(SHOES, NOISE), "R2"),
    row("new shoes", policy(DOGS), None, weight=0.0),
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> EncoderInput:
    path = tiny_encoder.write_tokenizer(tmp_path_factory.mktemp("reader") / "tokenizer.json")
    return EncoderInput.load(path, tiny_encoder.MAX_TOKENS, tiny_encoder.OVERLAP)


@pytest.fixture(scope="module")
def batch(reader: EncoderInput) -> list[RuleSample]:
    drawn = rule_samples(ROWS, 40, reader, PLAIN, 1, 0, benign([]))
    return [next(sample for sample in drawn if sample.rules == rules) for _, rules in ROWS[:2]]


def test_rows_are_drawn_by_weight_and_seed(reader: EncoderInput) -> None:
    drawn = rule_samples(ROWS, 40, reader, PLAIN, 1, 0, benign([]))
    assert len(drawn) == 40
    assert all(sample.item.unsafe for sample in drawn)  # the safe row has no weight
    assert drawn == rule_samples(ROWS, 40, reader, PLAIN, 1, 0, benign([]))
    assert drawn != rule_samples(ROWS, 40, reader, PLAIN, 1, 1, benign([]))


def test_texts_of_rules_are_told_once(batch: list[RuleSample]) -> None:
    texts = rule_texts([*batch, *batch])
    assert [text.partition(":")[0] for text in texts] == ["dogs", "shoes", "noise"]


def test_the_rules_of_other_rows_have_no_part_in_the_loss(batch: list[RuleSample]) -> None:
    texts = rule_texts(batch)
    logits = torch.tensor([[0.5, -1.0, 2.0], [3.0, -2.0, 1.0]], requires_grad=True)
    rule_loss(logits, batch, texts, 0.2, 0.0).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, torch.tensor([[False, True, True], [True, False, False]]))
    assert logits.grad[0, 0] < 0  # the rule that is broken should be likelier
    assert logits.grad[1, 1] > 0  # the one that is kept less
    assert logits.grad[1, 2] < 0


def test_a_row_that_is_judged_rightly_costs_little(batch: list[RuleSample]) -> None:
    texts = rule_texts(batch)
    right = torch.tensor([[9.0, 9.0, 9.0], [9.0, -9.0, 9.0]])
    assert rule_loss(right, batch, texts, 0.2, 0.0) < 0.01
    assert rule_loss(-right, batch, texts, 0.2, 0.0) > 5
