"""Causal models that hold no weights, and how each layer is given its own while it runs.

An 8B model takes 32 GB in fp32. A hollow model is the same modules with the same forward code, in a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from peft.tuners.lora.layer import LoraLayer
from peft.utils import TrainableTokensWrapper
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from guard.train.causal.checkpoint import Checkpoint

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_LOADING = ("attn_implementation", "dtype", "revision", "torch_dtype")  # options that do not describe a model

Source = Callable[[str], Tensor]  # the name of a parameter -> its value, fp32


@dataclass(frozen=True, slots=True, repr=False)
class Hollow:
    """`model`, whose parameters are stand-ins, and the name of the parameter that each of them stands for.

    What is put around the model later, an adapter say, keeps the stand-ins and adds parameters that are real.
    """

    model: Any
    names: Mapping[nn.Parameter, str]


def described(base: str, options: Mapping[str, Any]) -> Any:
    """The configuration that `from_pretrained(base, **options)` gives a model."""
    return AutoConfig.from_pretrained(base, **{key: value for key, value in options.items() if key not in _LOADING})


def empty_model(config: Any) -> Any:
    """The causal model of `config` whose parameters hold nothing. Its buffers are real."""
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return model.eval()


def hollow(config: Any, rows: int | None = None) -> Hollow:
    """The causal model of `config`. rows: of its output layer, None for all.

    Stand-ins lie on the CPU, because an adapter goes to the device of its base, which must not be `meta`.
    """
    model = empty_model(config)
    if rows is not None:
        cut_output(model, rows)
    stand_ins: dict[nn.Parameter, nn.Parameter] = {}
    names: dict[nn.Parameter, str] = {}
    for path, module in model.named_modules():
        for name, weight in list(module._parameters.items()):
            if weight is None:
                continue
            if weight not in stand_ins:  # a tied one stays tied
                one_number = torch.zeros(()).expand(weight.shape)  # whatever the shape
                stand_ins[weight] = nn.Parameter(one_number, requires_grad=False)
                names[stand_ins[weight]] = f"{path}.{name}"
            module._parameters[name] = stand_ins[weight]
    return Hollow(model, names)


def cut_output(model: Any, rows: int) -> None:
    """Gives a model an output layer of so many rows, of its own and without weights."""
    layer = model.get_output_embeddings()
    kind = layer.weight
    cut = nn.Linear(layer.in_features, rows, bias=layer.bias is not None, device=kind.device, dtype=kind.dtype)
    model.set_output_embeddings(cut)


def stored_as(model: Any, checkpoint: Checkpoint) -> dict[str, str]:
    """By the name of each parameter and kept buffer of a model, the tensor that holds it. BundleError if one is absent.

    The output layer of a model that ties its embeddings may lie nowhere else.
    """
    names = {name: name for name in model.state_dict()}
    if model.config.get_text_config().tie_word_embeddings and HEAD not in checkpoint:
        names[HEAD] = EMBEDDING
    checkpoint.require(names.values())
    return names


def persistent_buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, name in it, name in the model) of the buffers that checkpoints hold."""
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer is not None and name not in module._non_persistent_buffers_set:
                yield module, name, f"{path}.{name}" if path else name


def fill_while_running(given: Hollow, source: Source) -> None:
    """Hooks that give each layer its own weights before it runs and take them back after.

    A layer that peft wraps is filled as a whole, as the wrapper reads weights without calling what it wraps.
    """
    for module, name, full in persistent_buffers(given.model):
        module._buffers[name] = source(full).to(module.get_buffer(name).dtype)
    seen: set[nn.Module] = set()
    for unit in list(given.model.modules()):
        wrapped = isinstance(unit, LoraLayer | TrainableTokensWrapper)
        inside = nn.Module.modules(unit) if wrapped else (unit,)
        places = [
            (module, name, weight)
            for module in inside
            if module not in seen
            for name, weight in module._parameters.items()
            if weight is not None and weight in given.names
        ]
        seen.update(module for module, _, _ in places)
        if places:
            _hook(unit, [(module, name, weight, given.names[weight]) for module, name, weight in places], source)


def _hook(unit: nn.Module, places: list[tuple[nn.Module, str, nn.Parameter, str]], source: Source) -> None:
    def fill(*_: Any) -> None:
        for module, name, _weight, full in places:
            module._parameters[name] = nn.Parameter(source(full), requires_grad=False)

    def empty(*_: Any) -> None:
        for module, name, weight, _full in places:
            module._parameters[name] = weight

    unit.register_forward_pre_hook(fill)
    unit.register_forward_hook(empty)
