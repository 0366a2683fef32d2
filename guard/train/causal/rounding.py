"""How layers are rounded to blocks: to the nearest level, or with regard to what goes into them.

The second is GPTQ (Frantar et al. 2023, arXiv:2210.17323): inputs are rounded one after the other, and those that are
still to come make up for the error of those before, as far as the inputs of real texts hang together. It needs the
second moments of every layer's inputs, in memory all at once: .5 GB for a model of 135M.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guard.errors import BundleError
from guard.train.causal.quantise import BLOCK, Blocks, Form, Role, block_scales, in_blocks, in_channels

Rounding = Callable[[str, Tensor, int], Blocks]  # the name of a weight, its value and its bits -> what is stored
DAMPING = 0.01  # of the mean second moment, added to all: inputs that hang together wholly have no inverse


def nearest(_: str, weight: Tensor, bits: int) -> Blocks:
    """Every number by itself."""
    return in_blocks(weight, bits)


class Compensated:
    """Rounds the weights of `moments` as GPTQ does, each once, and all others to the nearest level."""

    def __init__(self, moments: Mapping[str, Tensor]) -> None:
        self._moments = moments
        self._made: dict[str, Blocks] = {}

    def __call__(self, name: str, weight: Tensor, bits: int) -> Blocks:
        if name not in self._moments:
            return in_blocks(weight, bits)
        if name not in self._made:
            self._made[name] = compensated(weight, bits, self._moments[name])
        return self._made[name]


def compensated(weight: Tensor, bits: int, moments: Tensor) -> Blocks:
    """The weight [outputs, inputs] in blocks whose product with inputs of these second moments [inputs, inputs] is near
    that of the weight; its inputs are a multiple of BLOCK."""
    in_blocks(weight[:, :BLOCK], bits)  # numbers that are not finite are an error
    left, moments = weight.float().clone(), moments.clone()
    inputs = len(moments)
    moments.diagonal()[moments.diagonal() == 0] = 1.0  # of an input that is always 0
    moments += torch.eye(inputs) * (DAMPING * moments.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    share = torch.linalg.cholesky(inverse, upper=True)  # row n: how far later inputs make up for an error of input n
    levels, scales, zeros = [], [], []
    for start in range(0, inputs, BLOCK):
        end = start + BLOCK
        block, within = left[:, start:end].clone(), share[start:end, start:end]
        scale, zero = (torch.from_numpy(part)[:, 0].float() for part in block_scales(block, bits))
        wide = scale.clamp(min=torch.finfo(torch.float16).tiny)
        lost = torch.zeros_like(block)
        for at in range(BLOCK):
            level = (torch.round(block[:, at] / wide) + zero).clamp(0, 2**bits - 1)
            lost[:, at] = (block[:, at] - (level - zero) * scale) / within[at, at]
            block[:, at:] -= lost[:, at : at + 1] * within[at, at:]
            levels.append(level)
        left[:, end:] -= lost @ share[start:end, end:]
        scales.append(scale)
        zeros.append(zero)
    return Blocks(
        bits,
        torch.stack(levels, 1).to(torch.uint8).numpy(),
        torch.stack(scales, 1).half().numpy(),
        torch.stack(zeros, 1).to(torch.uint8).numpy(),
    )


def kept(name: str, weight: Tensor, form: Form, role: Role, rounding: Rounding = nearest) -> Tensor:
    """What is left of a tensor once it is stored in a form and opened: fp32 of the same shape."""
    if weight.dim() != 2:
        return weight.to(form.type_of(role)).float()
    bits = form.blocks(role, *weight.shape)
    if bits is not None:
        weight = rounding(name, weight, bits).weight
    if form.integer(role, len(weight)):
        return in_channels(weight).weight
    return weight if bits is not None else weight.to(form.type_of(role)).float()


def moments_needed(model: Any, form: Form) -> int:
    """Bytes of the second moments of a model's layers. What several layers are given counts for each of them."""
    return sum(4 * layer.in_features**2 for _, layer in _layers(model, form))


def input_moments(model: Any, form: Form, prompts: Sequence[Sequence[int]], shared: int) -> dict[str, Tensor]:
    """By the names of the weights that the form keeps in 4 bits: the sum of x xᵀ [inputs, inputs] over what goes into
    their layers. Layers that are given the same share one tensor.

    prompts: token ids, of which the first `shared` are the same in all and count once.
    """
    found: dict[str, Tensor] = {}
    first: dict[str, str] = {}  # the layer that is given the same
    last: list[Any] = [None, ""]
    skipped = 0

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, given: tuple[Tensor]) -> None:
            if last[0] is not given[0]:
                last[:] = given[0], name
            first.setdefault(name, last[1])
            if first[name] == name:
                seen = given[0][:, skipped:].reshape(-1, given[0].shape[-1]).float()
                found[name] = found[name].addmm_(seen.T, seen) if name in found else seen.T @ seen

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in _layers(model, form)]
    try:
        for prompt in prompts:
            with torch.no_grad():
                model(input_ids=torch.tensor([prompt]), use_cache=False, logits_to_keep=1)
            skipped = shared
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise BundleError(f"{form.name} keeps no layer in 4 bits, so there is nothing to calibrate")
    return {name: found[first[name]] for name in first}


def _layers(model: Any, form: Form) -> list[tuple[str, nn.Linear]]:
    """The layers that a form keeps in 4 bits, by the names of their weights."""
    output = model.get_output_embeddings()
    return [
        (f"{path}.weight", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer is not output
        and form.blocks("linear", layer.out_features, layer.in_features) is not None
    ]
