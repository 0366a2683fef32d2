"""Token embeddings taught by a bag of words, so that a model without any language begins with what words say.

A causal model of random weights learns what a text violates through attention that does not yet look anywhere, which
takes thousands of steps. The mean of a text's embeddings shows it within a minute: after fastText (Joulin et al. 2016,
arXiv:1607.01759), with each embedding scaled as the model's first layer will scale it, and one hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guard.train.conditioned import loss_of
from guard.train.loop import adamw, rising_then_falling
from guard.train.visits import Visit

_ROWS = 256  # of one step
_RATES = {"table": 3e-3, "": 1e-3}  # of the embeddings, and of the layers that are thrown away
_HIDDEN = 512
_LEFT_OUT = 0.1  # of a row's tokens in each step, so that no row is known by one rare word
_DROPOUT = 0.2
_DECAY = 0.01
_WARMUP = 50
_CATEGORY_WEIGHT = 0.5


class Bag(nn.Module):
    """Rows of ids → one logit for each category, by the mean of the ids' scaled embeddings."""

    def __init__(self, table: Tensor, categories: int):
        super().__init__()
        width = table.shape[1]
        self.table = nn.Embedding(*table.shape)
        self.table.weight.data.copy_(table)
        self.scale = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.RMSNorm(width, eps=1e-6),
            nn.Linear(width, _HIDDEN),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, categories),
        )

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """[rows, categories]; no row is empty."""
        lengths = torch.tensor([len(row) for row in rows])
        row_of = torch.repeat_interleave(torch.arange(len(rows)), lengths)
        words = self.scale(self.table(torch.cat(list(rows))))
        total = words.new_zeros(len(rows), words.shape[1]).index_add(0, row_of, words)
        found: Tensor = self.head(total / lengths[:, None])
        return found


def taught_embeddings(
    table: Tensor, shown: Sequence[Visit], codes: Sequence[str], epochs: int, smooth: float, seed: int
) -> tuple[Tensor, list[float]]:
    """The embeddings [tokens, width] after so many epochs over the visits, and each epoch's mean loss.

    One or two epochs are enough: with more the embeddings know the rows by heart, and what is built on them trusts them
    too much.
    """
    torch.manual_seed(seed)
    bag = Bag(table, len(codes)).train()
    rows = [torch.tensor(visit.row[0]) for visit in shown]
    optimiser = adamw(bag, _RATES, _DECAY, (0.9, 0.98))
    schedule = rising_then_falling(optimiser, _WARMUP, epochs * -(-len(rows) // _ROWS))
    means = []
    for _ in range(epochs):
        losses = []
        for chosen in torch.split(torch.randperm(len(rows)), _ROWS):
            kept = [_some(rows[index]) for index in chosen]
            items = [shown[index].item for index in chosen]
            loss = loss_of(bag(kept), items, codes, True, _CATEGORY_WEIGHT, smooth)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / max(1, len(losses)))
    return bag.table.weight.detach(), means


def _some(ids: Tensor) -> Tensor:
    """The ids less those that are left out; all of them if none would be left."""
    kept = ids[torch.rand(len(ids)) > _LEFT_OUT]
    return kept if len(kept) else ids
