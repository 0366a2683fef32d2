"""The weights of an exported graph: a file of external data, and the nodes that read each tensor in its form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from guard.train.causal.hollow import HEAD
from guard.train.causal.quantise import (
    BLOCK,
    LEAST_SCALE,
    Blocks,
    Form,
    Role,
    channel_scales,
    in_channels,
)
from guard.train.causal.rounding import Rounding

PAGE = 4096  # ONNX Runtime maps external data into memory where its offset is a multiple of this


class WeightsFile:
    """The file of external data, and the initialisers that point into it. cut: the output layer has few rows left."""

    def __init__(
        self, model: ir.Model, file: BinaryIO, folder: Path, form: Form, rounding: Rounding, cut: bool
    ) -> None:
        self._model, self._file, self._folder, self._form = model, file, folder, form
        self._rounding = rounding
        self._output: Role = "other" if cut else "head"
        self._tokens: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}  # what goes into layers: levels and scales

    def add(self, weight: ir.Value, value: Tensor) -> None:
        """Stores what the graph's uses of a weight need, and rewires them."""
        name = str(weight.name)
        products = [
            (node, use.node)
            for node, _ in weight.uses()
            if node.op_type == "Transpose" and node.attributes["perm"].as_ints() == (1, 0)
            for use in node.outputs[0].uses()
            if use.node.op_type == "MatMul"
        ]
        tables = [node for node, index in weight.uses() if node.op_type == "Gather" and index == 0]
        role = self._output if name.removeprefix("model.") == HEAD or (tables and products) else "linear"
        bits = self._form.blocks("table" if tables else role, *value.shape) if value.dim() == 2 else None
        both = products and tables and bits is None  # one tensor serves as both
        if both or len(products) + len(tables) < len(weight.uses()):
            kind = self._form.type_of(role) if products else _torch(weight.dtype)
            weight.replace_all_uses_with(self._tensor(f"{name}.stored", value, kind, weight.dtype))
            return
        blocks = None
        if bits is not None:
            blocks = self._rounding(name.removeprefix("model."), value, bits)
            value = blocks.weight
            stored = self._blocks(name, blocks)
        if products and self._form.integer(role, len(value)):
            scales = self._tensor(f"{name}.channels", torch.from_numpy(channel_scales(value)))
            levels = (
                self._tensor(f"{name}.levels", torch.from_numpy(in_channels(value).levels.T.copy()))
                if blocks is None
                else self._unpacked(name, stored, scales, len(value))
            )
            for turned, product in products:
                self._in_integers(turned, product, levels, scales)
        elif products:
            last = self._tensor(f"{name}.turned", value.T, self._form.type_of(role), weight.dtype)
            for turned, _ in products:
                turned.outputs[0].replace_all_uses_with(last)
                self._model.graph.remove(turned, safe=True)
        if tables and blocks is not None:
            self._table_in_blocks(weight, tables, stored)
        elif tables:
            self._table(weight, tables, value)

    # -- layers that are multiplied in integers ---------------------------------------------------------------------

    def _blocks(self, name: str, blocks: Blocks) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Levels, scales and zero points as DequantizeLinear reads them."""
        kind = ir.DataType.UINT4 if blocks.bits == 4 else ir.DataType.UINT8
        return (
            self._levels(f"{name}.blocks", blocks.levels, kind),
            self._tensor(f"{name}.scales", torch.from_numpy(blocks.scales)),
            self._levels(f"{name}.zeros", blocks.zeros, kind),
        )

    def _levels(self, name: str, levels: Any, kind: Any) -> ir.Value:
        """Two levels a byte where they have 4 bits, the first in the lower half."""
        flat = levels.reshape(-1)
        if kind == ir.DataType.UINT4:
            flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
            flat = flat[::2] | (flat[1::2] << 4)
        return self._initializer(name, flat.tobytes(), kind, levels.shape)

    def _unpacked(self, name: str, stored: Sequence[ir.Value], scales: ir.Value, outputs: int) -> ir.Value:
        """Levels int8 [inputs, outputs], computed from blocks: a session does it once, when it opens."""
        none = self._tensor(f"{name}.none", torch.zeros(outputs, dtype=torch.int8))
        blocks = self._first("DequantizeLinear", stored, {"axis": 1, "block_size": BLOCK}, f"{name}.narrow")
        wide = self._first("Cast", [blocks], {"to": ir.DataType.FLOAT}, f"{name}.wide")
        levels = self._first("QuantizeLinear", [wide, scales, none], {"axis": 0}, f"{name}.levels")
        return self._first("Transpose", [levels], {"perm": [1, 0]}, f"{name}.turned")

    def _in_integers(self, turned: ir.Node, product: ir.Node, levels: ir.Value, scales: ir.Value) -> None:
        """A contrib operator of ONNX Runtime (docs/ContribOperators.md); its result is in units of a token's scale."""
        self._model.opset_imports.setdefault("com.microsoft", 1)
        given, own = self._in_eight_bits(product.inputs[0], product)
        name = product.outputs[0].name
        inputs = [given, levels, self._constant(1.0), scales, self._constant(128, np.uint8)]
        summed = self._before(product, "MatMulIntegerToFloat", inputs, {}, f"{name}.levels", "com.microsoft")
        found = self._before(product, "Mul", [summed, own], {}, f"{name}.whole")
        found.shape, found.type = product.outputs[0].shape, product.outputs[0].type
        product.outputs[0].replace_all_uses_with(found, replace_graph_outputs=True)
        self._model.graph.remove(product, safe=True)
        if not turned.outputs[0].uses():
            self._model.graph.remove(turned, safe=True)

    def _in_eight_bits(self, given: Any, product: ir.Node) -> tuple[ir.Value, ir.Value]:
        """Levels uint8 of a layer's input, 128 standing for 0, and the scale of each token. Layers share them."""
        if given not in self._tokens:
            name = given.name
            size = self._before(product, "Abs", [given], {}, f"{name}.size")
            last = self._constant(np.array([-1]))
            largest = self._before(product, "ReduceMax", [size, last], {"keepdims": 1}, f"{name}.largest")
            level = self._before(product, "Mul", [largest, self._constant(1 / 127)], {}, f"{name}.level")
            scale = self._before(product, "Max", [level, self._constant(LEAST_SCALE)], {}, f"{name}.scale")
            ratio = self._before(product, "Div", [given, scale], {}, f"{name}.ratio")
            inputs = [ratio, self._constant(1.0), self._constant(128, np.uint8)]
            self._tokens[given] = self._before(product, "QuantizeLinear", inputs, {}, f"{name}.eight"), scale
        return self._tokens[given]

    def _constant(self, value: Any, kind: Any = np.float32) -> ir.Value:
        array = value if isinstance(value, np.ndarray) else np.array(value, kind)
        name = f"constant.{array.dtype}.{array.tolist()}"
        if name not in self._model.graph.initializers:
            tensor = ir.tensor(array, name=name)
            made = ir.Value(
                name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self._model.graph.register_initializer(made)
        return self._model.graph.initializers[name]

    def _before(
        self, at: ir.Node, kind: str, inputs: Sequence[Any], attributes: dict[str, Any], name: str, domain: str = ""
    ) -> ir.Value:
        node = ir.node(kind, inputs, attributes, domain=domain)
        node.outputs[0].name = name
        self._model.graph.insert_before(at, node)
        return node.outputs[0]

    def _first(self, kind: str, inputs: Sequence[Any], attributes: dict[str, Any], name: str) -> ir.Value:
        """A node that needs initialisers alone; those that are asked for last stand behind those asked for before."""
        node = ir.node(kind, inputs, attributes)
        node.outputs[0].name = name
        feeding = [value.producer() for value in inputs if value.producer() is not None]
        if feeding:
            self._model.graph.insert_after(feeding[-1], node)
        else:
            self._model.graph.insert_before(self._model.graph[0], node)
        return node.outputs[0]

    # -- embeddings ---------------------------------------------------------------------------------------------------

    def _table_in_blocks(self, weight: ir.Value, lookups: Sequence[ir.Node], stored: Sequence[ir.Value]) -> None:
        """An embedding in blocks of 8 bits, of which rows are looked up and unpacked. A contrib operator."""
        self._model.opset_imports.setdefault("com.microsoft", 1)
        levels, scales, zeros = stored
        for node in lookups:
            inputs = [levels, node.inputs[1], scales, zeros]
            options = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
            found = self._before(
                node, "GatherBlockQuantized", inputs, options, f"{node.outputs[0].name}.narrow", "com.microsoft"
            )
            wide = self._before(node, "Cast", [found], {"to": weight.dtype}, f"{node.outputs[0].name}.wide")
            wide.shape, wide.type = node.outputs[0].shape, node.outputs[0].type
            node.outputs[0].replace_all_uses_with(wide, replace_graph_outputs=True)
            self._model.graph.remove(node, safe=True)

    def _table(self, weight: ir.Value, lookups: Sequence[ir.Node], value: Tensor) -> None:
        """An embedding: what is looked up is cast, not the whole."""
        kind = self._form.type_of("table")
        last: Any = self._tensor(f"{weight.name}.stored", value, kind)
        for node in lookups:
            node.replace_input_with(0, last)
            if last.dtype != weight.dtype:
                node.outputs[0].dtype = last.dtype
                self._cast_after(node, weight.dtype)

    def _cast_after(self, node: ir.Node, kind: Any) -> None:
        narrow = node.outputs[0]
        uses = list(narrow.uses())  # the cast will be one more
        cast = ir.node("Cast", [narrow], {"to": kind})
        cast.outputs[0].name, cast.outputs[0].shape = f"{narrow.name}.wide", narrow.shape
        cast.outputs[0].dtype = kind
        self._model.graph.insert_after(node, cast)
        for user, index in uses:
            user.replace_input_with(index, cast.outputs[0])

    # -- the file -----------------------------------------------------------------------------------------------------

    def _tensor(self, name: str, value: Tensor, kind: torch.dtype | None = None, wanted: Any = None) -> ir.Value:
        """An initialiser of type `kind`; where the graph wants another type, the output of a cast of it."""
        raw = value.to(kind or value.dtype).contiguous()
        dtype = _TYPES[raw.dtype]
        data = raw.reshape(-1).view(torch.uint8).numpy()
        made = self._initializer(name, data, dtype, raw.shape)
        if wanted is None or wanted == dtype:
            return made
        cast = ir.node("Cast", [made], {"to": wanted})
        cast.outputs[0].name, cast.outputs[0].shape = f"{name}.wide", made.shape
        cast.outputs[0].dtype = wanted
        self._model.graph.insert_before(self._model.graph[0], cast)
        return cast.outputs[0]

    def _initializer(self, name: str, data: Any, dtype: Any, shape: Sequence[int]) -> ir.Value:
        """data: something with a buffer."""
        offset = -(-self._file.tell() // PAGE) * PAGE
        self._file.write(b"\0" * (offset - self._file.tell()))
        self._file.write(data)
        length = self._file.tell() - offset
        self._file.flush()
        place = ir.ExternalTensor(
            Path(self._file.name).name, offset, length, dtype, shape=ir.Shape(shape), name=name, base_dir=self._folder
        )
        made = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=place)
        self._model.graph.register_initializer(made)
        return made


_TYPES = {
    torch.float32: ir.DataType.FLOAT,
    torch.float16: ir.DataType.FLOAT16,
    torch.bfloat16: ir.DataType.BFLOAT16,
    torch.uint8: ir.DataType.UINT8,
    torch.int8: ir.DataType.INT8,
}


def _torch(kind: Any) -> torch.dtype:
    return next(torch_kind for torch_kind, onnx_kind in _TYPES.items() if onnx_kind == kind)
