"""The forms int8 and int4 of a mini guard: its matrices have 8 bits and one scale a row, and linear layers multiply in
integers. In int4 the words' embedding, which nothing multiplies, has 4 bits and one scale for 32 numbers.

What goes into a linear layer is rounded to 8 bits with one scale a token, taken from the token itself: nothing depends
on the batch, and no calibration rows are needed. What stays in fp32 is what decides and costs little: attention scores,
softmax, LayerNorm, the head's other layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from guard.errors import BundleError
from guard.train.encoder import blocks
from guard.train.encoder.model import SCALE, ConditionedEncoder

WORDS = "encoder.embeddings.word_embeddings.weight"
TOP = 127  # of a weight
LEAST_SCALE = 1e-30  # of a row or a token that is 0 everywhere
ANY, GELU = 128, 16  # which of the 256 levels stands for 0: GELU is above -0.17, so that most levels are for the rest
GELU_LEAST = 0.17
_TYPES = onnx.TensorProto
FUSED = "com.microsoft"  # domain of ONNX Runtime's own operators


def rounded_matrices(model: ConditionedEncoder, words_in_blocks: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """The matrices of the form by name (layers that every token passes through, and the words' embedding), each as int8
    levels [rows, width] and scales fp32 [rows]; words_in_blocks: the embedding as `blocks.packed` has it."""
    found = {name: rounded(model.get_parameter(name)) for name in _matrices(model)}
    return found | ({WORDS: blocks.packed(model.get_parameter(WORDS))} if words_in_blocks else {})


def _matrices(model: ConditionedEncoder) -> list[str]:
    return [WORDS, *(f"{name}.weight" for name, _ in _token_layers(model))]


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix [rows, width] as int8 levels of the same shape and scales fp32 [rows]; level · scale is the value.

    BundleError if it holds numbers that are not finite.
    """
    values = weight.detach().float()
    if not bool(torch.isfinite(values).all()):
        raise BundleError("a weight is not a finite number; this run cannot be exported in int8, look at its training")
    scales = (values.abs().amax(1) / TOP).clamp(min=LEAST_SCALE)
    return torch.round(values / scales[:, None]).to(torch.int8), scales


def round_activations(model: ConditionedEncoder) -> None:
    """From now on the model rounds what goes into its integer layers, as the int8 form does."""
    for name, layer in _token_layers(model):
        layer.register_forward_pre_hook(partial(_rounded_input, _zero(name)))


def _rounded_input(zero: int, _: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return (_rounded_tokens(given[0], zero),)


def _zero(layer: str) -> int:
    """Which level stands for 0 in what goes into a layer."""
    return GELU if layer.endswith(".output.dense") and not layer.endswith(".attention.output.dense") else ANY


def _token_layers(model: ConditionedEncoder) -> list[tuple[str, nn.Linear]]:
    layers = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear))
    return [(name, part) for name, part in layers if name.startswith("encoder.") or name in ("head.key", "head.value")]


def _rounded_tokens(values: Tensor, zero: int) -> Tensor:
    """Values [..., width] with 256 levels a token."""
    largest = values.amax(-1, keepdim=True) if zero == GELU else values.abs().amax(-1, keepdim=True)
    scale = (largest * (1 / (255 - zero))).clamp(min=_least(zero))
    return torch.round(values / scale).clamp(-zero, 255 - zero) * scale


def _least(zero: int) -> float:
    return GELU_LEAST / zero if zero == GELU else LEAST_SCALE


def write_layers(proto: Any, model: ConditionedEncoder, words_in_blocks: bool = False) -> None:
    """Turns the matrices of an exported graph of the model into those of the form, in place.

    Their initializers get type and shape only: their values become external data.
    """
    graph = _Graph(proto)
    for name, _ in _token_layers(model):
        old = graph.user(f"{name}.weight", through="Transpose")
        graph.replace(old)
        tokens = graph.tokens(old.input[0], _zero(name))
        graph.product(tokens, name, old.output[0])
    lookup = graph.user(WORDS)
    graph.replace(lookup)
    shapes = {name: model.get_parameter(name).shape for name in _matrices(model)}
    if words_in_blocks:
        inputs = [WORDS, lookup.input[1], WORDS + SCALE]
        options: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": blocks.BLOCK}
        graph.add("GatherBlockQuantized", inputs, FUSED, lookup.output[0], **options)
        graph.finish(shapes, {WORDS})
        return
    levels = graph.add("Cast", [graph.add("Gather", [WORDS, lookup.input[1]])], to=onnx.TensorProto.FLOAT)
    scales = graph.add("Unsqueeze", [graph.add("Gather", [WORDS + SCALE, lookup.input[1]]), graph.constant([-1])])
    graph.add("Mul", [levels, scales], output=lookup.output[0])
    graph.finish(shapes)


class _Graph:
    """An exported graph of which nodes are replaced by others. New values get names of their own."""

    def __init__(self, proto: Any) -> None:
        self._proto, self._graph = proto, proto.graph
        self._at, self._count = 0, 0
        self._constants: dict[str, str] = {}
        self._tokens: dict[str, tuple[str, str, str]] = {}

    def user(self, name: str, through: str | None = None) -> Any:
        """The node that uses a value; through: the one that uses what a node of this type makes of it."""
        (node,) = [node for node in self._graph.node if name in node.input]
        return node if node.op_type != through else self.user(node.output[0])

    def replace(self, node: Any) -> None:
        """Removes the node; what is added from now on stands in its place."""
        self._at = next(place for place, each in enumerate(self._graph.node) if each.output == node.output)
        del self._graph.node[self._at]

    def add(
        self, kind: str, inputs: Sequence[str], domain: str = "", output: str | None = None, **attributes: Any
    ) -> str:
        """The output of a new node."""
        output = output or self._new()
        self._graph.node.insert(self._at, helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        self._at += 1
        return output

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        key = f"{array.dtype} {array.tolist()}"
        if key not in self._constants:
            self._constants[key] = self._new()
            self._graph.initializer.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def tokens(self, values: str, zero: int) -> tuple[str, str, str]:
        """Values [..., width] as uint8 levels, the scale of each token, and the level of 0; made once."""
        if values not in self._tokens:
            sizes = values if zero == GELU else self.add("Abs", [values])
            largest = self.add("ReduceMax", [sizes, self.constant([-1])], keepdims=1)
            scale = self.add("Mul", [largest, self.constant(np.float32(1 / (255 - zero)))])
            scale = self.add("Max", [scale, self.constant(np.float32(_least(zero)))])
            steps = self.add("Mul", [values, self.add("Reciprocal", [scale])])
            levels = [steps, self.constant(np.float32(1)), self.constant(np.uint8(zero))]
            self._tokens[values] = self.add("QuantizeLinear", levels), scale, levels[2]
        return self._tokens[values]

    def product(self, tokens: tuple[str, str, str], layer: str, output: str) -> None:
        """What a linear layer makes of tokens, without its bias."""
        levels, scale, zero = tokens
        weight = self.add("Transpose", [f"{layer}.weight"], perm=[1, 0])  # folded when the session opens
        self.add("MatMulIntegerToFloat", [levels, weight, scale, f"{layer}.weight{SCALE}", zero], FUSED, output)

    def finish(self, shapes: Mapping[str, Sequence[int]], in_blocks: Collection[str] = ()) -> None:
        """Removes what nobody uses any more, and gives the matrices their types."""
        wanted, kept = {output.name for output in self._graph.output}, []
        for node in reversed(self._graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        constants = [each for each in self._graph.initializer if each.name in wanted and each.name not in shapes]
        for name, (rows, width) in shapes.items():
            narrow = name in in_blocks
            kind = _TYPES.INT4 if narrow else _TYPES.INT8
            constants.append(onnx.TensorProto(name=name, dims=[rows, width], data_type=kind))
            scales = [rows, width // blocks.BLOCK] if narrow else [rows]
            constants.append(onnx.TensorProto(name=name + SCALE, dims=scales, data_type=_TYPES.FLOAT))
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(constants)
        self._proto.opset_import.append(helper.make_opsetid(FUSED, 1))

    def _new(self) -> str:
        self._count += 1
        return f"int8.{self._count}"
