"""The mini guard's graph with its linear layers in int8, in several ways, for `mini_forms.py` to compare.

The linear layers of the encoder are found by the names of their weights; all else (embeddings, attention scores,
softmax, LayerNorm, head) is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LINEAR = "encoder.encoder.layer."  # what the names of the encoder's linear weights begin with
GELU_LEAST = 0.17  # GELU is above -0.17 everywhere


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of the encoder: its MatMul's output, its activation, its weight's name, the weight [out, in]."""

    output: str
    activation: str
    name: str
    weight: npt.NDArray[np.float32]
    after_gelu: bool

    @property
    def group(self) -> str:
        """Layers that share an activation."""
        return self.activation


def linears(graph: Any) -> list[Linear]:
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    found = []
    for node in graph.node:
        name = node.input[1] if node.op_type == "MatMul" else ""
        while name not in stored and name in made_by and made_by[name].op_type in ("Cast", "Transpose", "Identity"):
            name = made_by[name].input[0]
        if name in stored and name.startswith(LINEAR):
            weight = numpy_helper.to_array(stored[name]).astype(np.float32)
            gelu = made_by[node.input[0]].op_type == "Gelu"
            found.append(Linear(node.output[0], node.input[0], name.removesuffix(".stored"), weight, gelu))
    return found


@dataclass(frozen=True, slots=True)
class Ranges:
    """What calibration saw of one activation: [channels] lowest and highest values, and a sample of all."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    sample: npt.NDArray[np.float32]


class Quantised:
    """The bundle's graph with some of its linear layers in int8. `model()` gives it; weights lie inside it."""

    def __init__(self, source: Path, bits: int = 8) -> None:
        import onnx

        self._model = onnx.load(str(source))
        self._top = 2 ** (bits - 1) - 1
        self._replaced: dict[str, list[Any]] = {}
        self._known: set[str] = set()

    @property
    def graph(self) -> Any:
        return self._model.graph

    def per_token(self) -> Quantised:
        """Every row of every activation has a scale of its own: its largest absolute value, or its largest value where
        a GELU bounds the others. uint8 with a fixed zero point, int8 weights, int32 sums."""
        self._constant("q.one", np.float32(1))
        self._constant("q.last", np.array([-1], np.int64))
        for layer in linears(self._model.graph):
            x, zero = layer.activation, 16 if layer.after_gelu else 128
            kind = "q.gelu" if layer.after_gelu else "q.any"
            nodes = []
            if self._constant(f"{kind}.zero", np.uint8(zero)):
                self._constant(f"{kind}.step", np.float32(1 / (255 - zero)))
                self._constant(f"{kind}.least", np.float32(GELU_LEAST / zero if layer.after_gelu else 1e-6))
            if f"{x}.u8" not in self._known:
                self._known.add(f"{x}.u8")
                size = x if layer.after_gelu else f"{x}.size"
                nodes += [] if layer.after_gelu else [_node("Abs", [x], size)]
                nodes += [
                    _node("ReduceMax", [size, "q.last"], f"{x}.largest", keepdims=1),
                    _node("Mul", [f"{x}.largest", f"{kind}.step"], f"{x}.raw_scale"),
                    _node("Max", [f"{x}.raw_scale", f"{kind}.least"], f"{x}.scale"),
                    _node("Reciprocal", [f"{x}.scale"], f"{x}.per_scale"),
                    _node("Mul", [x, f"{x}.per_scale"], f"{x}.scaled"),
                    _node("QuantizeLinear", [f"{x}.scaled", "q.one", f"{kind}.zero"], f"{x}.u8"),
                ]
            weight, scale = self._weight(layer, layer.weight)
            product = [f"{x}.u8", weight, "q.one", scale, f"{kind}.zero"]
            nodes += [
                _node("MatMulIntegerToFloat", product, f"{layer.output}.unit", domain="com.microsoft"),
                _node("Mul", [f"{layer.output}.unit", f"{x}.scale"], layer.output),
            ]
            self._replaced[layer.output] = nodes
        return self

    def static(
        self,
        ranges: Mapping[str, Ranges],
        share: float = 1.0,
        alpha: float | None = None,
        in_float: Sequence[str] = (),
    ) -> Quantised:
        """QDQ around each linear layer but those of the groups `in_float`. `share`: of the values on either side that
        the range holds. `alpha`: SmoothQuant's; the encoder normalises after its residuals, so that the scale cannot be
        folded into LayerNorm and costs a multiplication. Source: Xiao et al. 2023."""
        layers = [layer for layer in linears(self._model.graph) if layer.group not in in_float]
        for layer in layers:
            x, seen = layer.activation, ranges[layer.activation]
            smooth = np.ones_like(seen.low)
            if alpha is not None:
                largest = np.max([np.abs(other.weight).max(0) for other in layers if other.activation == x], axis=0)
                smooth = np.maximum(-seen.low, seen.high).clip(1e-3) ** alpha / largest.clip(1e-4) ** (1 - alpha)
            nodes = []
            if f"{x}.u8" not in self._known:
                self._known.add(f"{x}.u8")
                low, high = float((seen.low / smooth).min()), float((seen.high / smooth).max())
                if share < 1:
                    low, high = map(float, np.quantile(seen.sample, [1 - share, share]))
                low, high = min(low, 0.0), max(high, 0.0)
                step = (high - low) / 255
                grid = [f"{x}.step", f"{x}.zero"]
                self._constant(grid[0], np.float32(step))
                self._constant(grid[1], np.uint8(round(-low / step)))
                source = x
                if alpha is not None:
                    source = f"{x}.smoothed"
                    self._constant(f"{x}.smooth", (1 / smooth).astype(np.float32))
                    nodes.append(_node("Mul", [x, f"{x}.smooth"], source))
                nodes += [
                    _node("QuantizeLinear", [source, *grid], f"{x}.u8"),
                    _node("DequantizeLinear", [f"{x}.u8", *grid], f"{x}.back"),
                ]
            weight, scale = self._weight(layer, layer.weight * smooth)
            nodes += [
                _node("DequantizeLinear", [weight, scale], f"{layer.name}.back", axis=1),
                _node("MatMul", [f"{x}.back", f"{layer.name}.back"], layer.output),
            ]
            self._replaced[layer.output] = nodes
        return self

    def transposed(self) -> Quantised:
        """Weights as plain fp32 constants in the orientation of MatMul: `quantize_dynamic` sees no others."""
        for layer in linears(self._model.graph):
            name = f"{layer.name}.transposed"
            self._constant(name, np.ascontiguousarray(layer.weight.T))
            self._replaced[layer.output] = [_node("MatMul", [layer.activation, name], layer.output)]
        return self

    def model(self) -> Any:
        from onnx import helper

        graph = self._model.graph
        nodes = [new for node in graph.node for new in self._replaced.get(node.output[0], [node])]
        wanted = {output.name for output in graph.output}
        kept = []
        for node in reversed(nodes):  # what only the replaced nodes needed goes, weights in half precision included
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(reversed(kept))
        graph.initializer.extend(constants)
        self._model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return self._model

    def _weight(self, layer: Linear, weight: npt.NDArray[np.float32]) -> tuple[str, str]:
        scale = (np.abs(weight).max(1) / self._top).clip(1e-12).astype(np.float32)
        whole = np.round(weight / scale[:, None]).astype(np.int8)
        self._constant(f"{layer.name}.int8", np.ascontiguousarray(whole.T))
        self._constant(f"{layer.name}.scale", scale)
        return f"{layer.name}.int8", f"{layer.name}.scale"

    def _constant(self, name: str, value: Any) -> bool:
        """Whether it is new."""
        from onnx import numpy_helper

        new = name not in self._known
        if new:
            self._known.add(name)
            self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return new


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, list(inputs), [output], **attributes)


def calibrated(source: Path, feeds: Sequence[dict[str, Any]]) -> dict[str, Ranges]:
    """The ranges of all linear layers' activations over the inputs, each a batch of one without padding."""
    import onnx
    import onnxruntime

    model = onnx.load(str(source))
    names = sorted({layer.activation for layer in linears(model.graph)})
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen: dict[str, Ranges] = {}
    pick = np.random.default_rng(0)
    for feed in feeds:
        for name, value in zip(names, session.run(names, feed), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            low, high, some = rows.min(0), rows.max(0), rows[pick.integers(0, len(rows), 4)].ravel()
            if name in seen:
                past = seen[name]
                low, high = np.minimum(low, past.low), np.maximum(high, past.high)
                some = np.concatenate([past.sample, some])
            seen[name] = Ranges(low, high, some)
    return seen
