"""Verdicts by torch, in two ways: by the trained model as it is called, and by plain layers on the weights of a graph.

The first is what a bundle has to be: peft's and transformers' own forward code, with nothing folded in and nothing
written anew, from the embedding to whatever the model does to its logits. The second tells a graph's arithmetic from
what its form costs. The whole prompt goes through either in fp32, without a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guard.engines.base import padded_batches
from guard.errors import BundleError
from guard.train.causal.hollow import HEAD, Hollow, Source, fill_while_running, hollow
from guard.train.causal.quantise import Form, Role, rounded_tokens
from guard.train.causal.rounding import Rounding, kept, nearest
from guard.train.common.parity import Floats

BATCH_TOKENS = 16384  # a batch reads all weights once
NUDGE = 1e-6


def stored_model(
    config: Any,
    source: Source,
    form: Form | None = None,
    head: Sequence[int] | None = None,
    rounding: Rounding = nearest,
) -> Any:
    """The model of `config` on these weights (fp32), or on what a form keeps of them.

    head: the ids that the output layer is cut to. Layers hold weights only while they run, and where the form is
    multiplied in integers, they see what is left of their inputs.
    """
    made = hollow(config, None if head is None else len(head))
    roles = _roles(made, "other" if head is not None else "head")

    def value(name: str) -> Tensor:
        found = source(name)
        if head is not None and name == HEAD:
            found = found[list(head)]
        role = roles.get(name.rpartition(".")[0], "other") if name.endswith(".weight") else "other"
        return found if form is None else kept(name, found, form, role, rounding)

    fill_while_running(made, value)
    if form is not None:
        for path, module in made.model.named_modules():
            if isinstance(module, nn.Linear) and form.integer(roles[path], module.out_features):
                module.register_forward_pre_hook(_round_input)
    return made.model


def nudge(model: Any) -> None:
    """Changes the embeddings that the layers of a model see by a part in a million, at random.

    Where numbers are rounded within a model, what is computed in another order ends as far away as this.
    """
    generator = torch.Generator().manual_seed(0)

    def hook(_: nn.Module, __: Any, found: Tensor) -> Tensor:
        return found * (1 + NUDGE * torch.randn(found.shape, generator=generator))

    model.get_input_embeddings().register_forward_hook(hook)


def _round_input(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return (rounded_tokens(given[0]),)


def _roles(made: Hollow, output_layer: Role) -> dict[str, Role]:
    """By the path of a module."""
    output = made.model.get_output_embeddings()
    found: dict[str, Role] = {}
    for path, module in made.model.named_modules():
        if module is output:
            found[path] = output_layer
        elif isinstance(module, nn.Linear):
            found[path] = "linear"
        elif isinstance(module, nn.Embedding):
            found[path] = "table"
    return found


def torch_log_odds(model: Any, prompts: Sequence[Sequence[int]], columns: Sequence[int]) -> tuple[Floats, Floats]:
    """log p(unsafe) - log p(safe), and p(safe) + p(unsafe), of each prompt: float64 [prompts].

    columns: of the first tokens of `safe` and `unsafe` among the model's logits; the sum is among all of these.
    BundleError if the model cannot give the logits of chosen positions.
    """
    odds, mass = np.empty(len(prompts)), np.empty(len(prompts))
    for batch in padded_batches([len(ids) for ids in prompts], BATCH_TOKENS):
        rows = [torch.tensor(prompts[index]) for index in batch]
        last = torch.tensor([len(row) - 1 for row in rows])
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = (torch.arange(ids.shape[1]) <= last[:, None]).long()
        read = torch.tensor(sorted({*last.tolist()}))
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=read).logits
        if logits.shape[1] != len(read):
            raise BundleError(f"a {model.config.model_type} gives no logits of chosen positions (logits_to_keep)")
        own = logits[torch.arange(len(rows)), torch.searchsorted(read, last)]
        found = torch.log_softmax(own.double(), -1)[:, list(columns)]
        odds[batch] = (found[:, 1] - found[:, 0]).numpy()
        mass[batch] = found.exp().sum(1).numpy()
    return odds, mass
