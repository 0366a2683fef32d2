"""The weights of a finished run, one tensor at a time: the base's shards with the adapter folded in.

An 8B model takes 32 GB in fp32. Here a model is a list of names, and only the tensor that is asked for is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn

from guard.errors import BundleError, need
from guard.train.causal.adapter import check_layers, check_options
from guard.train.causal.checkpoint import Checkpoint, model_folder, opened
from guard.train.causal.hollow import (
    EMBEDDING,
    HEAD,
    Hollow,
    described,
    empty_model,
    fill_while_running,
    hollow,
    stored_as,
)
from guard.train.causal.qlora import rounded

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_INSIDE = "base_model.model."  # where an adapter's file has the base


class MergedWeights:
    """`config` of the model and, by its parameters' names, their values in fp32. Not thread-safe.

    trained: a LoRA adapter of `base`, or a folder with all weights of a full fine-tuning (then `base` is not read).
    in_four_bits: the adapter learnt on the base in 4 bits, so it is folded into those values (see qlora.py).
    options: what the base was loaded with for the training, beside its name; some change its configuration.
    Raises BundleError where a folder, shard or tensor is missing, or a part of the adapter cannot be folded in;
    MissingExtra where bitsandbytes is missing and needed.
    """

    def __init__(
        self, base: str, trained: Path, in_four_bits: bool = False, options: Mapping[str, Any] | None = None
    ) -> None:
        self.adapted = (trained / ADAPTER).is_file()
        if not self.adapted and not (trained / "config.json").is_file():
            raise BundleError(f"{trained}: holds neither {ADAPTER} nor config.json; train to the end, then export")
        given = dict(options or {}) if self.adapted else {}
        root = model_folder(base, given) if self.adapted else trained
        self.config = described(str(root), given)
        self._checkpoint = Checkpoint(root)
        self._layers: dict[str, Any] = {}
        self._replaced: dict[str, Tensor] = {}
        self._rounded: frozenset[str] = frozenset()
        self._hollow = hollow(self.config)
        self._stored_as = stored_as(self._hollow.model, self._checkpoint)
        self._called: Any = self._hollow.model
        if self.adapted:
            self._read_adapter(trained)
            if in_four_bits:
                need("bitsandbytes", "qlora")  # before anything takes long
                self._rounded = linear_weights(self.config)
            self._untie()

    def _read_adapter(self, trained: Path) -> None:
        options = json.loads((trained / ADAPTER).read_text(encoding="utf-8"))
        check_options(options, f"{trained / ADAPTER}: lora", BundleError)
        self._called = PeftModel.from_pretrained(
            self._hollow.model, str(trained), low_cpu_mem_usage=True, torch_device="cpu"
        ).eval()
        adapted: Any = self._called.base_model.model
        check_layers(adapted, str(trained), BundleError)
        self._check_names(trained / ADAPTER_WEIGHTS)
        for name, module in adapted.named_modules():
            if isinstance(module, LoraLayer | TrainableTokensWrapper):
                self._layers[name] = module
            elif isinstance(module, ModulesToSaveWrapper):
                saved = module.modules_to_save[module.active_adapters[0]].state_dict()
                self._replaced |= {f"{name}.{key}": value for key, value in saved.items()}

    def _check_names(self, path: Path) -> None:
        """BundleError where the adapter's file holds what no layer took, or lacks what one has."""
        with opened(path) as file:
            held = set(file.keys())
            taken = set(get_peft_model_state_dict(self._called, save_embedding_layers=False))
            strange = taken - held | {name for name in held - taken if not self._is_base(name, file.get_tensor(name))}
        if strange:
            raise BundleError(
                f"{path}: {min(strange)} ({len(strange)} such) belongs to no part of this model that the export folds "
                "in, or is missing; do not ship this"
            )

    def _is_base(self, name: str, value: Tensor) -> bool:
        """peft writes an embedding beside the adapter that is on it."""
        base = name.removeprefix(_INSIDE).replace(".base_layer.", ".")
        return base in self._checkpoint and torch.equal(value, self._checkpoint.read(base))

    def _untie(self) -> None:
        """Where the adapter changed the embedding or the output layer, they are no longer one tensor."""
        text = self.config.get_text_config()
        changed = {*(f"{path}.weight" for path in self._layers), *self._replaced}
        if text.tie_word_embeddings and changed & {HEAD, EMBEDDING}:
            text.tie_word_embeddings = torch.equal(self.tensor(HEAD), self.tensor(EMBEDDING))

    def called(self) -> Any:
        """The trained model as peft and transformers call it, with nothing folded: the adapter, or none, around the
        base's own forward code. Its layers hold the base's weights only while they run."""
        fill_while_running(Hollow(self._called, self._hollow.names), self.base)
        return self._called

    def tensor(self, name: str) -> Tensor:
        """The trained value of a parameter."""
        if name in self._replaced:
            return self._replaced[name].float()
        path, _, kind = name.rpartition(".")
        layer = self._layers.get(path)
        return self.base(name) if layer is None else self._folded_in(layer, path)[kind]

    def base(self, name: str) -> Tensor:
        """The value of a parameter below the adapter. A tied output layer has the embedding's."""
        weight = self._checkpoint.read(self._stored_as.get(name, name)).float()
        return rounded(weight) if name in self._rounded else weight

    def _folded_in(self, layer: Any, path: str) -> dict[str, Tensor]:
        """The parameters of a layer after peft's own merge, during which alone it holds them."""
        layer = layer.token_adapter if isinstance(layer, TrainableTokensWrapper) else layer
        base = layer.get_base_layer()
        empty = {name: weight for name, weight in base._parameters.items() if weight is not None}
        for name in empty:
            base._parameters[name] = nn.Parameter(self.base(f"{path}.{name}"), requires_grad=False)
        try:
            layer.merge(safe_merge=True)
            return {name: base._parameters[name].detach() for name in empty}
        except ValueError:  # peft's only reason here
            raise BundleError(f"the adapter of {path} is not made of finite numbers; look at its training") from None
        finally:
            base._parameters.update(empty)
            layer.merged_adapters.clear()


def linear_weights(config: Any) -> frozenset[str]:
    """The weights of the linear layers but the output, which are what bitsandbytes stores in 4 bits."""
    model = empty_model(config)
    output = model.get_output_embeddings()
    return frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    )
