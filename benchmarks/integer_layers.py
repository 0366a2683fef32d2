"""One linear layer in ONNX Runtime on one thread: fp32 against the ways to multiply it with rounded weights (ADR 010).

python benchmarks/integer_layers.py [--inputs 576 --outputs 1536] [--out benchmarks/results/integer_layers.json]

All ways take turns in one process; a ratio is fp32's least CPU time over the way's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import _pybind_state as native

BLOCK = 32
CONTRIB = "com.microsoft"
Nodes = list[onnx.NodeProto]
Layer = Callable[[np.ndarray], np.ndarray]


def layer(nodes: Nodes, weights: dict[str, Any], inputs: int, outputs: int) -> Layer:
    """nodes: from `x` [tokens, inputs] to `y` [tokens, outputs]."""
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def in_blocks(weight: np.ndarray, bits: int, accuracy: int) -> Layer:
    """MatMulNBits: blocks are unpacked in every call, or multiplied in integers (accuracy level 4)."""
    inputs, outputs = weight.shape
    count = inputs // BLOCK
    blocks = np.zeros((outputs, count, BLOCK * bits // 8), np.uint8)
    scales = np.zeros((outputs, count), np.float32)
    zeros = np.zeros((outputs, -(-count * bits // 8)), np.uint8)
    write = {8: native.quantize_matmul_8bits, 4: native.quantize_matmul_4bits}[bits]
    write(blocks, weight.copy(), scales, zeros, BLOCK, outputs, inputs, False)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "blocks", "scales", "zeros"],
        ["y"],
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=accuracy,
    )
    return layer([node], {"blocks": blocks, "scales": scales, "zeros": zeros}, inputs, outputs)


def by_token(weight: np.ndarray, top: int) -> Layer:
    """Integers: inputs with one scale a token and 8 bits, weights with one scale an output and levels up to `top`."""
    scales = (np.abs(weight).max(0) / top).astype(np.float32)
    levels = np.rint(weight / scales).astype(np.int8)
    make = helper.make_node
    nodes = [
        make("Abs", ["x"], ["size"]),
        make("ReduceMax", ["size", "last"], ["largest"], keepdims=1),
        make("Mul", ["largest", "level"], ["scale"]),
        make("Div", ["x", "scale"], ["ratio"]),
        make("QuantizeLinear", ["ratio", "one", "zero"], ["eight"]),
        make("MatMulIntegerToFloat", ["eight", "levels", "one", "scales", "zero"], ["sums"], domain=CONTRIB),
        make("Mul", ["sums", "scale"], ["y"]),
    ]
    constants = {"last": np.array([-1]), "level": np.float32(1 / 127), "one": np.float32(1), "zero": np.uint8(128)}
    return layer(nodes, {**constants, "levels": levels, "scales": scales}, *weight.shape)


def measured(layers: dict[str, Layer], x: np.ndarray, rounds: int) -> dict[str, float]:
    """The least CPU seconds of each on the same tokens."""
    repeat = max(1, 64 // len(x))
    least = dict.fromkeys(layers, float("inf"))
    for _ in range(rounds):
        for name, each in layers.items():
            started = time.process_time()
            for _ in range(repeat):
                each(x)
            least[name] = min(least[name], (time.process_time() - started) / repeat)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=576)
    parser.add_argument("--outputs", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/integer_layers.json"))
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(given.inputs, given.outputs)) * 0.05).astype(np.float32)
    layers = {
        "fp32": layer([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, given.inputs, given.outputs),
        **{f"blocks, {bits} bits": in_blocks(weight, bits, 0) for bits in (4, 8)},
        **{f"blocks, {bits} bits, accuracy level 4": in_blocks(weight, bits, 4) for bits in (4, 8)},
        "integers by token, 7 bits": by_token(weight, 63),
        "integers by token, 8 bits": by_token(weight, 127),
    }
    table = []
    for tokens in (1, 64, 1024):
        x = rng.normal(size=(tokens, given.inputs)).astype(np.float32)
        least, exact = measured(layers, x, given.rounds), x @ weight
        for name, each in layers.items():
            ratio, off = least["fp32"] / least[name], float(np.abs(each(x) - exact).max())
            table.append({"tokens": tokens, "layer": name, "speed": round(ratio, 2), "furthest": round(off, 4)})
            print(f"{tokens:5} tokens  {name:36} {ratio:5.2f} x fp32   off by {off:.4f} at most")
    written = {"inputs": given.inputs, "outputs": given.outputs, "onnxruntime": onnxruntime.__version__, "table": table}
    given.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
