"""From a finished LoRA run to a sealed causal bundle: merge, export to ONNX with the cache as inputs, check, seal."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from guard.engines.base import Window
from guard.engines.causal_onnx import SETTINGS, CausalOnnxEngine, CausalSettings
from guard.errors import BundleError
from guard.policy import Policy
from guard.prompt import TEMPLATE_DIGEST, Prompt
from guard.train.export import common_fields, sealed
from guard.train.parity import PARITY_TEXTS

OPSET = 23  # the first that has Attention, RMSNormalization and RotaryEmbedding as operators of their own
TOLERANCE = 4e-3  # in log-odds, between torch and ONNX: never more than 1e-3 in probability


def bundle_causal(run: Path, record: dict[str, Any], made: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Fills the folder `made` from the run; the manifest's fields and the measured parity.

    Raises BundleError if the run was rendered in another way than this version renders, or if torch and ONNX disagree;
    EngineError if the model has not learnt to answer with a verdict.
    """
    if record["renderer"] != TEMPLATE_DIGEST:
        raise BundleError(
            f"{run}: trained on prompts of layout {record['renderer']}, this version makes layout {TEMPLATE_DIGEST}; "
            "train it again"
        )
    config = record["config"]
    for file in ("tokenizer.json", "policy.yaml"):
        shutil.copyfile(run / file, made / file)
    prompt = Prompt.load(made / "tokenizer.json", config["max_tokens"], config["overlap"], config["detail"])
    settings = CausalSettings(
        config["detail"], prompt.safe, prompt.unsafe, prompt.chat.end[0], config["least_label_mass"]
    )
    (made / SETTINGS).write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n", encoding="utf-8")
    model = merged(config["base"], run / "adapter")
    write_graph(model, made / "model.onnx")
    base = Path(config["base"]).name if Path(config["base"]).exists() else config["base"]
    fields = {**common_fields(record, made), "kind": "causal", "base": base, "renderer": TEMPLATE_DIGEST}
    draft = sealed(made, fields)
    return fields, _parity(CausalOnnxEngine(draft), model, prompt, draft.policy)


def merged(base: str, adapter: Path) -> Any:
    """The base model in fp32 with the adapter folded into its weights."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


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
        positions: Tensor,
        token_ids: Tensor,
        past: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        cache = DynamicCache(ddp_cache_data=list(zip(past[::2], past[1::2], strict=True)))
        found = self.model.get_decoder()(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        states = found.last_hidden_state
        read = states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))
        logits = self.model.get_output_embeddings()(read)
        log_probs = torch.log_softmax(logits.float(), -1).index_select(-1, token_ids)
        layers = found.past_key_values.layers
        return log_probs, [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def write_graph(model: Any, out: Path) -> None:
    """Writes the graph of `model` to `out`, its weights to a `.data` file beside it, and checks both."""
    config = model.config.get_text_config()
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    batch, tokens, past, read, wanted = (torch.export.Dim(n) for n in ("batch", "tokens", "past", "read", "wanted"))
    cache = [torch.randn(2, heads, 5, width) for _ in range(2 * layers)]
    whole, few = torch.ones(2, 5 + 3, dtype=torch.long), torch.arange(3).repeat(2, 1)
    names = [f"{index}.{part}" for index in range(layers) for part in ("key", "value")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter talks about its own insides
        program = torch.onnx.export(
            FlatModel(model).eval(),
            (few.clone(), whole, few + 5, few[:, :2].clone(), torch.arange(4), cache),
            input_names=[
                "input_ids",
                "attention_mask",
                "position_ids",
                "positions",
                "token_ids",
                *(f"past.{n}" for n in names),
            ],
            output_names=["log_probs", *(f"present.{n}" for n in names)],
            dynamic_shapes=(
                {0: batch, 1: tokens},
                {0: batch, 1: torch.export.Dim.DYNAMIC},  # past + tokens
                {0: batch, 1: tokens},
                {0: batch, 1: read},
                {0: wanted},
                [{0: batch, 2: past}] * (2 * layers),
            ),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None only for the older exporter
    for node in program.model.graph:
        node.metadata_props.clear()  # paths and stack traces of this machine
        node.doc_string = None
    program.save(str(out), external_data=True)
    onnx.checker.check_model(str(out), full_check=True)


def _parity(engine: CausalOnnxEngine, model: Any, prompt: Prompt, rules: Policy) -> dict[str, float]:
    """Largest differences in log-odds: torch on whole prompts, ONNX on the cached policy, alone and in a batch."""
    windows = [window for text in PARITY_TEXTS for window in engine.read(text, rules).windows]
    alone = [engine.score([window])[0].unsafe for window in windows]
    batch = [score.unsafe for score in engine.score(windows)]
    expected = torch_log_odds(model, prompt, windows)
    parity = {
        "torch_vs_onnx_alone": float(np.abs(expected - np.array(alone)).max()),
        "torch_vs_onnx_batch": float(np.abs(expected - np.array(batch)).max()),
        "texts": float(len(PARITY_TEXTS)),
    }
    for key in ("torch_vs_onnx_alone", "torch_vs_onnx_batch"):
        if not parity[key] <= TOLERANCE:
            raise BundleError(f"{key}: log-odds differ by {parity[key]:.2g}, allowed is {TOLERANCE}; do not ship this")
    return parity


def torch_log_odds(model: Any, prompt: Prompt, windows: Sequence[Window]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log p(unsafe) - log p(safe) of each window by the torch model: the whole prompt, no cache, no batch."""
    found = []
    for window in windows:
        ids = [*prompt.prefix_ids(window.policy), *window.ids]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1].double()
        found.append(float(logits[prompt.unsafe[0]] - logits[prompt.safe[0]]))
    return np.array(found)
