"""Export of the encoder to ONNX, with its weights in the safetensors file that torch loads.

The graph holds no weights: each is external data at its offset in model.safetensors, stored in half precision and cast
to fp32 when the session is made, so that the arithmetic (and with it batch invariance) is that of fp32.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from guard.bundle import Bundle
from guard.engines.base import all_scores
from guard.engines.mini import MiniEngine
from guard.errors import BundleError
from guard.policy import Policy
from guard.prompts.encoder import LAYOUT_DIGEST, category_text
from guard.train.common.draft import common_fields, sealed
from guard.train.common.labels import Row
from guard.train.common.parity import PARITY_TEXTS
from guard.train.encoder import model as encoder
from guard.train.encoder.model import ConditionedEncoder

OPSET = 20
TOLERANCE = 1e-3  # in probability, between torch and ONNX


def bundle_encoder(run: Path, record: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Fills `folder` from the run; returns the manifest's fields and the measured parity."""
    model = encoder.load(run).eval()
    encoder.save(model, folder, torch.float16)
    shutil.copyfile(run / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(run / "policy.yaml", folder / "policy.yaml")
    stored = encoder.load(folder).eval()  # what ships: weights rounded to half precision, computed in fp32
    write_graph(stored, folder / "model.safetensors", folder / "model.onnx")
    fields = {**common_fields(record, folder), "kind": "mini", "base": record["base"], "renderer": LAYOUT_DIGEST}
    return fields, _parity(sealed(folder, fields), model, stored)


def write_graph(model: ConditionedEncoder, weights: Path, out: Path) -> None:
    """Writes the graph of `model` to `out`, which refers to the safetensors file `weights` beside it."""
    proto = _export(model)
    places = _tensors(weights)
    for initializer in list(proto.graph.initializer):
        if initializer.name not in places:
            continue
        kind, (start, end) = places[initializer.name]
        stored = onnx.TensorProto(name=f"{initializer.name}.stored", dims=initializer.dims, data_type=kind)
        stored.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", start), ("length", end - start)):
            stored.external_data.add(key=key, value=str(value))
        cast = onnx.helper.make_node("Cast", [stored.name], [initializer.name], to=onnx.TensorProto.FLOAT)
        proto.graph.initializer.remove(initializer)
        proto.graph.initializer.append(stored)
        proto.graph.node.insert(0, cast)
    inline = sum(len(initializer.raw_data) for initializer in proto.graph.initializer)
    if inline > 1 << 20:
        raise RuntimeError(f"{inline} bytes of weights stayed inside {out.name}: their names are not in {weights.name}")
    out.write_bytes(proto.SerializeToString())
    onnx.checker.check_model(str(out), full_check=True)


def _export(model: ConditionedEncoder) -> Any:
    rows, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    # Three different tensors: one tensor given twice would be exported as one input that serves as both.
    ids, mask, segments = (torch.ones(2, 7, dtype=torch.long) for _ in range(3))
    program = torch.onnx.export(
        model.eval(),
        (ids, mask, segments, torch.zeros(3, model.encoder.config.hidden_size)),
        input_names=["input_ids", "attention_mask", "token_type_ids", "categories"],
        output_names=["vector", "logits", "refusal"],
        dynamic_shapes=(
            {0: rows, 1: tokens},
            {0: rows, 1: tokens},
            {0: rows, 1: tokens},
            {0: torch.export.Dim("categories")},
        ),
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert program is not None  # it is None only where `export` wrote a file
    proto = program.model_proto
    for node in proto.graph.node:
        node.ClearField("metadata_props")  # paths and stack traces of this machine
        node.ClearField("doc_string")
    del proto.graph.value_info[:]
    proto.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")
    return proto


def _tensors(path: Path) -> dict[str, tuple[int, tuple[int, int]]]:
    """ONNX element type and absolute byte range of every tensor of a safetensors file.

    Source: https://github.com/huggingface/safetensors#format (8 bytes of header length, JSON header, data).
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    kinds = {"F16": onnx.TensorProto.FLOAT16, "F32": onnx.TensorProto.FLOAT, "BF16": onnx.TensorProto.BFLOAT16}
    return {
        name: (kinds[entry["dtype"]], (8 + length + entry["data_offsets"][0], 8 + length + entry["data_offsets"][1]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _parity(draft: Bundle, model: ConditionedEncoder, stored: ConditionedEncoder) -> dict[str, float]:
    """Largest difference in probability: torch against ONNX on the stored weights, and full against half precision."""
    engine = MiniEngine(draft)
    windows = [w for text in PARITY_TEXTS for w in engine.tokenize(text, draft.policy).windows]
    rows = [(window.ids, window.segments) for window in windows]
    onnx_alone = _probabilities(np.array([all_scores(engine, [window])[0].unsafe for window in windows]))
    onnx_batch = _probabilities(np.array([score.unsafe for score in all_scores(engine, windows)]))
    torch_stored = _torch(stored, engine, rows, draft.policy)
    torch_full = _torch(model, engine, rows, draft.policy)
    parity = {
        "torch_vs_onnx": float(np.abs(torch_stored - onnx_batch).max()),
        "alone_vs_batch": float(np.abs(onnx_alone - onnx_batch).max()),
        "fp32_vs_stored": float(np.abs(torch_full - torch_stored).max()),
        "texts": float(len(PARITY_TEXTS)),
    }
    for key in ("torch_vs_onnx", "alone_vs_batch"):
        if not parity[key] <= TOLERANCE:
            raise BundleError(
                f"{key}: probabilities differ by {parity[key]:.2g}, must be <= {TOLERANCE}; do not ship this export"
            )
    return parity


def _torch(model: ConditionedEncoder, engine: MiniEngine, rows: Sequence[Row], rules: Policy) -> Any:
    reader = engine.input
    words = [reader.category_ids(category_text(category)) for category in rules.categories]
    with torch.no_grad():
        vectors = model.embed(**encoder.padded([(ids, (0,) * len(ids)) for ids in words], reader.pad))
        logits = model(**encoder.padded(rows, reader.pad), categories=vectors)[1]
    return _probabilities(torch.logsumexp(logits, 1).double().numpy())


def _probabilities(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-log_odds))
