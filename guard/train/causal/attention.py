"""Attention of many short rows to one prefix that they share, as matrix products over all rows at once.

On a CPU this is the larger part of a step's time otherwise: torch repeats the prefix for each row and each query head,
and its fused kernel's backward pass uses no matrix instructions (docs/research-log.md, 2026-11-30). Here the queries of
all rows and of the heads that share a key head stand in one matrix before the prefix's keys, which exist once. The
scores of a step are kept, as the fused kernel does not: 2 bytes for each query, query head and key.

Registered with transformers as the attention `shared_prefix`; a call without `prefix` is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "shared_prefix"
# Models whose layers all attend to all tokens before, by softmax(q k / scale) v and nothing else.
_PLAIN = {"llama", "qwen2", "qwen3"}


def use_shared_prefix(model: PreTrainedModel, device: str) -> bool:
    """Gives the model this attention and says so; leaves it as it is where another is faster or means another thing."""
    text = model.config.get_text_config()
    plain = text.model_type in _PLAIN and set(getattr(text, "layer_types", None) or ()) <= {"full_attention"}
    if device != "cpu" or not plain:
        return False
    model.set_attn_implementation(NAME)
    return True


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    prefix: Sequence[tuple[Tensor, Tensor]] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The output [rows, tokens, heads, width] of one layer.

    query: [rows, heads, tokens, width]. key, value: [rows, key heads, tokens, width]. Rows are padded at their end, so
    that order alone says who sees whom. prefix: of each layer the keys and values, both [1, key heads, prefix, width].
    """
    if prefix is None:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return out, None
    with torch.autocast(query.device.type, enabled=False):
        kind = value.dtype  # rotary positions widen queries and keys
        far_key, far_value = (part[0].to(kind) for part in prefix[module.layer_idx])
        rows, heads, tokens, width = query.shape
        groups = key.shape[1]
        each = rows * groups
        query = (query * (width**-0.5 if scaling is None else scaling)).to(kind).reshape(each, -1, width)
        later = torch.full((tokens, tokens), -torch.inf, dtype=kind, device=query.device).triu(1)
        own = query @ key.to(kind).reshape(each, tokens, width).mT + later.repeat(heads // groups, 1)
        far = _across(query, rows, groups) @ far_key.mT
        scores = torch.cat([far, _across(own, rows, groups)], -1).softmax(-1)
        far, own = scores[..., : far.shape[-1]], _along(scores[..., far.shape[-1] :], rows, groups)
        out = _along(far @ far_value, rows, groups) + own @ value.reshape(each, tokens, width)
    return out.view(rows, heads, tokens, width).transpose(1, 2), None


def _across(part: Tensor, rows: int, groups: int) -> Tensor:
    """[rows · key heads, n, m] as [key heads, rows · n, m]: all rows before one key head."""
    return part.view(rows, groups, -1, part.shape[-1]).transpose(0, 1).reshape(groups, -1, part.shape[-1])


def _along(part: Tensor, rows: int, groups: int) -> Tensor:
    """[key heads, rows · n, m] as [rows · key heads, n, m]: the way back."""
    return part.view(groups, rows, -1, part.shape[-1]).transpose(0, 1).reshape(rows * groups, -1, part.shape[-1])


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def prefix_of(past: Any) -> list[tuple[Tensor, Tensor]]:
    """The keys and values of each layer of a cache."""
    return [(layer.keys, layer.values) for layer in past.layers]


def shares_prefix(model: nn.Module) -> bool:
    """Whether a model, whatever it is wrapped in, has this attention."""
    config: Any = getattr(getattr(model, "module", model), "config", None)  # that of a parallel model is inside
    return getattr(config, "_attn_implementation", None) == NAME
