"""Export of the encoder to ONNX, with its weights in the safetensors file that torch loads.

The graph holds no weights: each is external data at its offset in model.safetensors, stored in half precision and cast
to fp32 when the session is made, so that the arithmetic (and with it batch invariance) is that of fp32. In the forms
int8 and int4 the large matrices are stored and multiplied in integers (guard.train.encoder.integers).
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
from guard.train.common.parity import PARITY_TEXTS, THRESHOLD
from guard.train.encoder import integers
from guard.train.encoder import model as encoder
from guard.train.encoder.model import ConditionedEncoder

OPSET = 20
FORMS = ("fp16", "int8", "int4")  # how the weights are stored; the first is the default
# In probability, between torch and ONNX on the same stored weights; in integers also twice what torch is away from
# itself after a nudge, because a sum that lies between two levels may fall to either, and each layer makes more of it.
TOLERANCES = {"fp16": 1e-3, "int8": 1e-2, "int4": 1e-2}
ALONE_TOLERANCE = 1e-3  # in probability, between a window alone and in a batch
NUDGE = 1e-6  # of an embedding, as a share of it
MOST_FLIPS = 0.1  # share of the verdicts on the parity texts that a form may change


def bundle_encoder(
    run: Path, record: dict[str, Any], folder: Path, form: str = FORMS[0], most_flips: float = MOST_FLIPS
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fills `folder` from the run; returns the manifest's fields and the measured parity.

    BundleError if there is no such form, torch and ONNX disagree, or the form changes more verdicts than `most_flips`.
    """
    if form not in FORMS:
        raise BundleError(f"form {form!r}: an encoder's forms are {', '.join(FORMS)}")
    model = encoder.load(run).eval()
    integer, in_blocks = form != "fp16", form == "int4"
    encoder.save(model, folder, torch.float16, integers.rounded_matrices(model, in_blocks) if integer else {})
    shutil.copyfile(run / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(run / "policy.yaml", folder / "policy.yaml")
    stored = encoder.load(folder).eval()  # what ships: rounded weights, computed in fp32 unless they are integers
    write_graph(stored, folder / "model.safetensors", folder / "model.onnx", form)
    if integer:
        integers.round_activations(stored)
    fields = {**common_fields(record, folder), "kind": "mini", "base": record["base"], "renderer": LAYOUT_DIGEST}
    return fields, _parity(sealed(folder, fields), model, stored, form, most_flips)


def write_graph(model: ConditionedEncoder, weights: Path, out: Path, form: str = FORMS[0]) -> None:
    """Writes the graph of `model` to `out`, which refers to the safetensors file `weights` beside it."""
    proto = _export(model)
    if form != "fp16":
        integers.write_layers(proto, model, form == "int4")
    places = _tensors(weights)
    for initializer in list(proto.graph.initializer):
        if initializer.name not in places:
            continue
        kind, (start, end) = places[initializer.name]
        kind = initializer.data_type if kind == onnx.TensorProto.UINT8 else kind  # two levels of 4 bits in a byte
        half = kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        name = f"{initializer.name}.stored" if half else initializer.name
        stored = onnx.TensorProto(name=name, dims=initializer.dims, data_type=kind)
        stored.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", start), ("length", end - start)):
            stored.external_data.add(key=key, value=str(value))
        proto.graph.initializer.remove(initializer)
        proto.graph.initializer.append(stored)
        if half:
            cast = onnx.helper.make_node("Cast", [name], [initializer.name], to=onnx.TensorProto.FLOAT)
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
    types = onnx.TensorProto
    kinds = {"F16": types.FLOAT16, "F32": types.FLOAT, "BF16": types.BFLOAT16, "I8": types.INT8, "U8": types.UINT8}
    return {
        name: (kinds[entry["dtype"]], (8 + length + entry["data_offsets"][0], 8 + length + entry["data_offsets"][1]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _parity(
    draft: Bundle, model: ConditionedEncoder, stored: ConditionedEncoder, form: str, most_flips: float
) -> dict[str, float]:
    """Largest difference in probability: torch against ONNX on the stored weights, a window alone against in a batch,
    and the trained against the stored weights; and the share of verdicts in which these two differ."""
    engine, integer = MiniEngine(draft), form != "fp16"
    windows = [w for text in PARITY_TEXTS for w in engine.tokenize(text, draft.policy).windows]
    rows = [(window.ids, window.segments) for window in windows]
    onnx_alone = _probabilities(np.array([all_scores(engine, [window])[0].unsafe for window in windows]))
    onnx_batch = _probabilities(np.array([score.unsafe for score in all_scores(engine, windows)]))
    torch_stored = _torch(stored, engine, rows, draft.policy)
    torch_full = _torch(model, engine, rows, draft.policy)
    nudged = np.abs(_torch(stored, engine, rows, draft.policy, NUDGE) - torch_stored) if integer else np.zeros(1)
    parity = {
        "torch_vs_onnx": float(np.abs(torch_stored - onnx_batch).max()),
        "alone_vs_batch": float(np.abs(onnx_alone - onnx_batch).max()),
        "fp32_vs_stored": float(np.abs(torch_full - torch_stored).max()),
        "flips": float(((torch_full >= THRESHOLD) != (torch_stored >= THRESHOLD)).mean()),
        "texts": float(len(PARITY_TEXTS)),
        **({"nudged": float(nudged.max())} if integer else {}),
    }
    tolerance = max(TOLERANCES[form], 2 * float(nudged.max()))
    for key, limit in (("torch_vs_onnx", tolerance), ("alone_vs_batch", ALONE_TOLERANCE)):
        if not parity[key] <= limit:
            raise BundleError(
                f"{key}: probabilities differ by {parity[key]:.2g}, must be <= {limit}; do not ship this export"
            )
    if parity["flips"] > most_flips:
        raise BundleError(
            f"the form changes {parity['flips']:.0%} of the verdicts on the parity texts, must be <= {most_flips:.0%}; "
            "export another form, or allow it with --most-flips"
        )
    return parity


def _torch(
    model: ConditionedEncoder, engine: MiniEngine, rows: Sequence[Row], rules: Policy, nudge: float = 0.0
) -> Any:
    """[rows]: the probabilities; nudge: by which share the embeddings are changed at random."""
    reader = engine.input
    words = [reader.category_ids(category_text(category)) for category in rules.categories]
    noise = torch.Generator().manual_seed(0)

    def nudged(_: torch.nn.Module, __: Any, states: torch.Tensor) -> torch.Tensor:
        return states * (1 + nudge * torch.randn(states.shape, generator=noise))

    hook = model.encoder.embeddings.register_forward_hook(nudged)
    with torch.no_grad():
        vectors = model.embed(**encoder.padded([(ids, (0,) * len(ids)) for ids in words], reader.pad))
        logits = model(**encoder.padded(rows, reader.pad), categories=vectors)[1]
    hook.remove()
    return _probabilities(torch.logsumexp(logits, 1).double().numpy())


def _probabilities(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-log_odds))
