"""The ONNX graph of a causal model: traced without weights, which are then written one tensor at a time.

The trace sees fake tensors, so that it costs the same memory for 1 B and for 70 B parameters. Its weights become
external data in `NAME.data`, each in the form asked for and in the orientation that its operator reads.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AutoModelForCausalLM, DynamicCache

from guard.errors import BundleError
from guard.train.causal.hollow import HEAD, Source, cut_output, empty_model, persistent_buffers
from guard.train.causal.quantise import Form
from guard.train.causal.rounding import Rounding, nearest
from guard.train.causal.weights_file import WeightsFile

OPSET = 23  # the first that has Attention, RMSNormalization and RotaryEmbedding as operators of their own


# The trace takes most of the time of a small export and does not depend on weights: forms share it. It holds none.
_traces: dict[tuple[str, torch.dtype, int | None], onnx.ModelProto] = {}


class FlatModel(nn.Module):
    """A causal model with plain tensors in and out: the graph that `guard.engines.causal_onnx` describes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_index: Tensor,
        logit_index: Tensor,
        token_ids: Tensor,
        past: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        own = [tensor.index_select(0, past_index) for tensor in past]
        cache = DynamicCache(ddp_cache_data=list(zip(own[::2], own[1::2], strict=True)))

        def read(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
            return (given[0].gather(1, logit_index[..., None].expand(-1, -1, given[0].shape[-1])),)

        # The model's own forward, which may scale or cap its logits; its output layer sees the positions to read alone.
        hook = self.model.get_output_embeddings().register_forward_pre_hook(read)
        try:
            found = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
        finally:
            hook.remove()
        log_probs = torch.log_softmax(found.logits.float(), -1).index_select(-1, token_ids)
        layers = found.past_key_values.layers
        return log_probs, [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def write_graph(
    config: Any,
    tensor: Source,
    form: Form,
    out: Path,
    head: Sequence[int] | None = None,
    rounding: Rounding = nearest,
) -> None:
    """Writes the graph of a model to `out`, its weights to `out`.data beside it, and checks both.

    head: the ids whose rows of the output layer are kept, in this order; None keeps all. Needs the memory of the
    trace (about 1 GB) and of the largest tensor, three times where it is quantised.
    """
    model = _traced(config, form.arithmetic, None if head is None else len(head))
    empty = empty_model(config)
    buffers = dict(empty.named_buffers())
    for _, _, name in persistent_buffers(empty):
        buffers[name] = tensor(name).to(buffers[name].dtype)

    def value(name: str) -> Tensor:
        if name in buffers:
            found: Tensor = buffers[name]
            return found
        if name == HEAD and head is not None:
            return tensor(name)[list(head)]
        return tensor(name)

    with out.with_name(f"{out.name}.data").open("wb") as file:
        store = WeightsFile(model, file, out.parent, form, rounding, cut=head is not None)
        for weight in _weights(model):
            store.add(weight, value(str(weight.name).removeprefix("model.")))
    for node in model.graph:
        node.metadata_props.clear()  # paths and stack traces of this machine
        node.doc_string = None
    ir.save(model, out)
    onnx.checker.check_model(str(out), full_check=True)


def _traced(config: Any, dtype: torch.dtype, rows: int | None) -> ir.Model:
    """The graph, optimised, its weights as inputs: nothing may be folded that has no value yet.

    BundleError where the model's forward is not one that can be traced.
    """
    key = (config.to_json_string(use_diff=False), dtype, rows)
    if key not in _traces:
        try:
            _traces[key] = ir.to_proto(_trace(config, dtype, rows))
        except Exception as problem:
            told = next(iter(str(problem).splitlines()), "")[:120]
            raise BundleError(
                f"the forward of a {config.model_type} cannot be written as a graph ({type(problem).__name__}: {told})"
            ) from problem
    return ir.from_proto(_traces[key])


def _trace(config: Any, dtype: torch.dtype, rows: int | None) -> ir.Model:
    text = config.get_text_config()
    layers, heads = text.num_hidden_layers, text.num_key_value_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    batch, tokens, past, kept, read, wanted = (
        torch.export.Dim(name) for name in ("batch", "tokens", "past", "kept", "read", "wanted")
    )
    names = [f"{index}.{part}" for index in range(layers) for part in ("key", "value")]
    ids = ["input_ids", "attention_mask", "position_ids", "past_index", "logit_index", "token_ids"]
    with warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # the exporter talks about its own insides
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
        model.eval()
        if rows is not None:
            cut_output(model, rows)
        whole, few = torch.ones(2, 5 + 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
        cache = [torch.zeros(3, heads, 5, width, dtype=dtype) for _ in range(2 * layers)]
        program = torch.onnx.export(
            FlatModel(model).eval(),
            # Different tensors: one that is given twice would become one input that serves as both.
            (few, whole, few.clone(), whole[:, 0].clone(), whole[:, :2].clone(), whole[0, :4].clone(), cache),
            input_names=[*ids, *(f"past.{name}" for name in names)],
            output_names=["log_probs", *(f"present.{name}" for name in names)],
            dynamic_shapes=(
                {0: batch, 1: tokens},
                {0: batch, 1: torch.export.Dim.DYNAMIC},  # past + tokens
                {0: batch, 1: tokens},
                {0: batch},
                {0: batch, 1: read},
                {0: wanted},
                [{0: kept, 2: past}] * (2 * layers),
            ),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # it is None only where `export` wrote a file
    graph = program.model.graph
    for name, weight in list(graph.initializers.items()):
        if isinstance(getattr(weight.const_value, "raw", None), FakeTensor):
            del graph.initializers[name]
            weight.const_value = None
            graph.inputs.append(weight)
    program.optimize()
    return program.model


def _weights(model: ir.Model) -> Iterator[ir.Value]:
    """The inputs that are no inputs, taken off the graph."""
    graph = model.graph
    for value in [value for value in graph.inputs if str(value.name).startswith("model.")]:
        graph.inputs.remove(value)
        if value.uses():
            yield value
