"""Training on rows that are judged by rules of their own, which teach an encoder to obey policies it has not seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guard.conversation import Example
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput, category_text
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import Pool
from guard.train.common.sampling import Sample, samples

RuleRow = tuple[Example, Policy]


@dataclass(frozen=True, slots=True)
class RuleSample(Sample):
    """One window of an example, with its label under a policy of its own."""

    rules: Policy


def rule_samples(
    rows: Sequence[RuleRow],
    count: int,
    reader: EncoderInput,
    settings: Augmentation,
    seed: int,
    epoch: int,
    pool: Pool,
) -> list[RuleSample]:
    """The samples of `count` rows, drawn by their weights, by seed and epoch alone."""
    chosen = random.Random(f"rules/{seed}/{epoch}").choices(rows, [example.weight for example, _ in rows], k=count)
    return [
        RuleSample(sample.item, sample.row, rules)
        for example, rules in chosen
        for sample in samples([example], reader, rules, settings, seed, epoch, pool)
    ]


def rule_texts(batch: Sequence[RuleSample]) -> list[str]:
    """The texts of all rules of the batch, each once, in order of occurrence."""
    return list(dict.fromkeys(category_text(rule) for sample in batch for rule in sample.rules.categories))


def rule_loss(
    logits: Tensor, batch: Sequence[RuleSample], texts: Sequence[str], category_weight: float, smooth: float
) -> Tensor:
    """Binary cross-entropy of the OR over each row's own rules, plus that of each of them.

    logits: [rows, texts], the log-odds of all rules of the batch; those of other rows' rules have no part in the loss,
    because nobody has said whether the row breaks them.
    """
    place = {text: column for column, text in enumerate(texts)}
    own = torch.zeros(len(batch), len(texts), dtype=torch.bool)
    broken = torch.zeros(len(batch), len(texts))
    for row, sample in enumerate(batch):
        for rule in sample.rules.categories:
            column = place[category_text(rule)]
            own[row, column] = True
            if rule.code in (sample.item.categories or ()):
                broken[row, column] = 1.0
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    unsafe = torch.tensor([float(sample.item.unsafe) for sample in batch])
    either = torch.logsumexp(logits.masked_fill(~own, -torch.inf), 1)
    each = bce(logits, broken, reduction="none") * own
    return bce(either, unsafe * (1 - 2 * smooth) + smooth) + category_weight * each.sum() / len(batch)
