"""The weights of a finished run, one tensor at a time: the base's shards with the adapter folded in.

An 8B model takes 32 GB in fp32. Here a model is a list of names, and only the tensor that is asked for is in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from guard.errors import BundleError, need
from guard.train.causal.qlora import rounded

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"


class MergedWeights:
    """`config` of the model and, by its parameters' names, their values in fp32. Not thread-safe.

    trained: a LoRA adapter of `base`, or a folder with all weights of a full fine-tuning (then `base` is not read).
    in_four_bits: the adapter learnt on the base in 4 bits, so it is folded into those values (see qlora.py).
    Raises BundleError where a folder, shard or tensor is missing, or the adapter is no LoRA adapter; MissingExtra
    where bitsandbytes is missing and needed.
    """

    def __init__(self, base: str, trained: Path, in_four_bits: bool = False) -> None:
        adapted = (trained / ADAPTER).is_file()
        if not adapted and not (trained / "config.json").is_file():
            raise BundleError(f"{trained}: holds neither {ADAPTER} nor config.json; train to the end, then export")
        root = _folder(base) if adapted else trained
        self.config = AutoConfig.from_pretrained(root)
        self.tied = bool(self.config.get_text_config().tie_word_embeddings)
        self._places = _places(root)
        self._open: dict[Path, Any] = {}
        self._layers: dict[str, Any] = {}
        self._replaced: dict[str, Tensor] = {}
        self._rounded: frozenset[str] = frozenset()
        if adapted:
            self._read_adapter(trained)
            if in_four_bits:
                need("bitsandbytes", "qlora")  # before anything takes long
                self._rounded = linear_weights(self.config)

    def _read_adapter(self, trained: Path) -> None:
        options = json.loads((trained / ADAPTER).read_text(encoding="utf-8"))
        if options.get("peft_type") != "LORA" or options.get("bias", "none") != "none":
            raise BundleError(
                f"{trained}: an adapter of type {options.get('peft_type')} with bias {options.get('bias')!r}; the "
                "export folds in LoRA (rsLoRA and DoRA too) with bias none"
            )
        bare = empty_model(self.config)
        for module in bare.modules():  # an adapter goes to the device of its base, which must not be `meta`
            for name, weight in module.named_parameters(recurse=False):
                stand_in = torch.zeros(()).expand(weight.shape)  # one number, whatever the shape
                module._parameters[name] = nn.Parameter(stand_in, requires_grad=False)
        wrapped = PeftModel.from_pretrained(bare, str(trained), low_cpu_mem_usage=True, torch_device="cpu")
        adapted: Any = wrapped.base_model.model
        for name, module in adapted.named_modules():
            if isinstance(module, LoraLayer):
                self._layers[f"{name}.weight"] = module
            elif isinstance(module, ModulesToSaveWrapper):
                saved = module.modules_to_save[module.active_adapters[0]].state_dict()
                self._replaced |= {f"{name}.{key}": value for key, value in saved.items()}

    def tensor(self, name: str) -> Tensor:
        """The trained value of a parameter. A tied output layer has the embedding's."""
        if name in self._replaced:
            return self._replaced[name].float()
        weight = self._stored(name).float()
        if name in self._rounded:
            weight = rounded(weight)
        layer = self._layers.get(name)
        return weight if layer is None else _folded_in(layer, weight)

    def _stored(self, name: str) -> Tensor:
        if name not in self._places and self.tied and name == "lm_head.weight":
            name = "model.embed_tokens.weight"
        if name not in self._places:
            raise BundleError(
                f"the base's safetensors hold no tensor {name}; is the download whole, is it a causal LM?"
            )
        path = self._places[name]
        if path not in self._open:
            self._open[path] = _opened(path)
        found: Tensor = self._open[path].get_tensor(name)
        return found


def empty_model(config: Any) -> Any:
    """The causal model of `config` whose parameters hold nothing. Its buffers are real: no checkpoint has them."""
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return model.eval()


def linear_weights(config: Any) -> frozenset[str]:
    """The weights of the linear layers but the output, which are what bitsandbytes stores in 4 bits."""
    model = empty_model(config)
    output = model.get_output_embeddings()
    return frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    )


def _folded_in(layer: Any, weight: Tensor) -> Tensor:
    """peft's own merge, on a layer that holds its weight only meanwhile."""
    base = layer.get_base_layer()
    empty = base.weight
    base.weight = nn.Parameter(weight, requires_grad=False)
    layer.merge(safe_merge=True)
    merged: Tensor = base.weight.detach()
    base.weight = empty
    layer.merged_adapters.clear()
    return merged


def _folder(base: str) -> Path:
    """Where a base lies: a folder, or a model of the hub that was downloaded before or can be now."""
    if Path(base).is_dir():
        return Path(base)
    try:
        return Path(snapshot_download(base, allow_patterns=["config.json", "*.safetensors", INDEX]))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as problem:
        raise BundleError(
            f"base {base}: no folder of that name, and the hub gave nothing ({type(problem).__name__}); "
            "train and export with base=FOLDER"
        ) from None


def _places(root: Path) -> dict[str, Path]:
    """The shard of every tensor."""
    if (root / INDEX).is_file():
        names = json.loads((root / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {name: root / file for name, file in names.items()}
    path = root / "model.safetensors"
    if not path.is_file():
        raise BundleError(f"{root}: no {INDEX} and no model.safetensors; convert the base to safetensors")
    return dict.fromkeys(_opened(path).keys(), path)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as problem:
        raise BundleError(f"{path}: cannot be read ({type(problem).__name__}); download the base again") from None
