"""A group of rows as one step sees it: tensors, the policy's share of the work done once, and the loss of the verdicts.

The prefix goes through the model by itself; its keys and values, with their gradient, are repeated for all rows. The
loss and the gradients are those of whole prompts: a row's tokens see the same past in both forms. Rows are padded at
their end, which no token before can see, so that neither form needs a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guard.prompts.window import Ids
from guard.train.causal.attention import prefix_of, shares_prefix
from guard.train.causal.group import Batch, Group
from guard.train.causal.rows import IGNORED


def collated(batches: Sequence[Batch], pad: int) -> dict[str, Any]:
    """The one batch of a step as a data loader gives it: `groups`, and `labels`, all that it learns behind one ignored
    token, by which the trainer counts."""
    (batch,) = batches
    learnt = [token for group in batch for _, verdict in group.rows for token in verdict]
    return {"groups": [tensors(group, pad) for group in batch], "labels": torch.tensor([IGNORED, *learnt])}


def tensors(group: Group, pad: int) -> dict[str, Tensor]:
    """prefix [1, prefix]; input_ids, mask and labels [rows, tokens]. The mask counts tokens, and no model needs it."""
    width = max(len(asked) + len(verdict) for asked, verdict in group.rows)
    ids = torch.full((len(group.rows), width), pad)
    labels = torch.full((len(group.rows), width), IGNORED)
    mask = torch.zeros(len(group.rows), width, dtype=torch.bool)
    for index, (asked, verdict) in enumerate(group.rows):
        end = len(asked) + len(verdict)
        ids[index, :end] = torch.tensor([*asked, *verdict])
        mask[index, :end] = True
        labels[index, len(asked) : end] = torch.tensor(verdict)
    return {"prefix": torch.tensor([group.prefix]), "input_ids": ids, "mask": mask, "labels": labels}


@dataclass(frozen=True, slots=True)
class VerdictLoss:
    """The cross-entropy of each learnt token [learnt], weighted, and how many of them the model would have written."""

    tokens: Tensor
    right: int


def verdict_loss(
    model: Any, backbone: nn.Module, given: dict[str, Tensor], share_prefix: bool, first_token_weight: float
) -> VerdictLoss:
    """The loss of a group's tensors.

    `model` is called as a Hugging Face causal LM, whatever it is wrapped in; `backbone` are its layers below the output
    layer, which gets the learnt positions alone. share_prefix: whether the prefix is computed once.
    """
    prefix, ids, labels = given["prefix"], given["input_ids"], given["labels"]
    past: dict[str, Any] = {"use_cache": False}
    if share_prefix:
        past = before(model, prefix, ids)
    else:
        ids = torch.cat([prefix.expand(len(ids), -1), ids], 1)
        labels = nn.functional.pad(labels, (prefix.shape[1], 0), value=IGNORED)
    learnt = labels[:, 1:] != IGNORED
    hook = backbone.register_forward_hook(functools.partial(learnt_alone, learnt))
    try:
        logits = model(input_ids=ids, **past).logits[0]
    finally:
        hook.remove()
    expected = labels[:, 1:][learnt]
    tokens = nn.functional.cross_entropy(logits.float(), expected, reduction="none")
    right = int((logits.detach().argmax(1) == expected).sum())
    return VerdictLoss(tokens * first_token_weights(labels, first_token_weight)[learnt], right)


def before(model: Any, prefix: Tensor, ids: Tensor) -> dict[str, Any]:
    """What a model is called with beside rows [rows, tokens] that follow one prefix [1, prefix]."""
    if not shares_prefix(model):
        return {"past_key_values": cached(model, prefix, len(ids)), "use_cache": True}
    length = prefix.shape[1]
    positions = torch.arange(length, length + ids.shape[1], device=ids.device)[None]
    return {"prefix": prefix_of(cached(model, prefix, 1)), "position_ids": positions, "use_cache": False}


def cached(model: Any, prefix: Tensor, rows: int) -> Any:
    """The keys and values of a prefix [1, prefix], repeated for so many rows; with their gradient where it is on."""
    past = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
    past.batch_repeat_interleave(rows)
    return past


def learnt_alone(learnt: Tensor, _model: Any, _given: Any, found: Any) -> Any:
    """A forward hook: [1, tokens learnt, width], the last hidden states that a learnt token is predicted from."""
    found.last_hidden_state = found.last_hidden_state[:, :-1][learnt][None]
    return found


def first_token_weights(labels: Tensor, weight: float) -> Tensor:
    """[batch, tokens - 1]: `weight` where a row's first learnt token is predicted, 1 elsewhere."""
    learnt = labels[:, 1:] != IGNORED
    first = learnt & (learnt.cumsum(1) == 1)
    return torch.where(first, weight, 1.0)


def padded_left(rows: Sequence[Ids], device: Any) -> tuple[Tensor, Tensor]:
    """Ids and mask, both [rows, tokens]: the last position is every row's last."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
