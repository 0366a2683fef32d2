"""Verdicts by the torch model, whose layers hold weights only while they run: what a graph is checked against.

The whole prompt goes through it in fp32, without a cache, so that nothing but the weights is shared with the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guard.engines.base import padded_batches
from guard.train.causal.merged import empty_model
from guard.train.causal.quantise import Form, Role, kept
from guard.train.common.parity import Floats

BATCH_TOKENS = 16384  # a batch reads all weights once

Source = Callable[[str], Tensor]


def torch_log_odds(
    config: Any,
    source: Source,
    prompts: Sequence[Sequence[int]],
    words: tuple[int, int],
    form: Form | None = None,
    head: Sequence[int] | None = None,
) -> tuple[Floats, Floats]:
    """log p(unsafe) - log p(safe), and p(safe) + p(unsafe), of each prompt: float64 [prompts].

    source: the weights in fp32. words: the first tokens of `safe` and `unsafe`. form: what of the weights is kept
    before they are used, None for all. head: the ids that the output layer is cut to; the sum is then among them.
    """
    model = empty_model(config)
    columns = list(words) if head is None else [list(head).index(word) for word in words]
    if head is not None:
        layer = model.get_output_embeddings()
        cut = nn.Linear(layer.in_features, len(head), bias=layer.bias is not None, device="meta")
        model.set_output_embeddings(cut)
    _fill_while_running(model, source, form, head)
    odds, mass = np.empty(len(prompts)), np.empty(len(prompts))
    for batch in padded_batches([len(ids) for ids in prompts], BATCH_TOKENS):
        rows = [torch.tensor(prompts[index]) for index in batch]
        last = torch.tensor([len(row) - 1 for row in rows])
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = (torch.arange(ids.shape[1]) <= last[:, None]).long()
        with torch.no_grad():
            states = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            logits = model.get_output_embeddings()(states[torch.arange(len(rows)), last]).double()
        cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
        found = torch.log_softmax(cap * torch.tanh(logits / cap) if cap else logits, -1)[:, columns]
        odds[batch] = (found[:, 1] - found[:, 0]).numpy()
        mass[batch] = found.exp().sum(1).numpy()
    return odds, mass


def _fill_while_running(model: Any, source: Source, form: Form | None, head: Sequence[int] | None) -> None:
    """Hooks that give each module its own weights before it runs and take them back after."""
    output = model.get_output_embeddings()
    for path, module in model.named_modules():
        names = [name for name, _ in module.named_parameters(recurse=False)]
        if not names:
            continue
        role: Role = (
            "head"
            if module is output
            else "linear"
            if isinstance(module, nn.Linear)
            else "table"
            if isinstance(module, nn.Embedding)
            else "other"
        )

        def fill(module: nn.Module, _: Any, path: str = path, names: list[str] = names, role: Role = role) -> None:
            for name in names:
                value = source(f"{path}.{name}")
                if role == "head" and head is not None:
                    value = value[list(head)]
                if form is not None:
                    value = kept(value, form, role if name == "weight" else "other")
                module._parameters[name] = nn.Parameter(value, requires_grad=False)

        def empty(module: nn.Module, _: Any, __: Any, names: list[str] = names) -> None:
            for name in names:
                shape = module.get_parameter(name).shape
                module._parameters[name] = nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)

        module.register_forward_pre_hook(fill)
        module.register_forward_hook(empty)
