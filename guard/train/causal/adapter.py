"""Which LoRA adapters become a guard: those that can be folded into their base. Asked before training and at export."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Embedding, Linear, LoraLayer
from peft.tuners.lora.variants import DoraEmbeddingVariant, DoraLinearVariant
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from guard.errors import BundleError, ConfigError
from guard.train.causal.hollow import hollow

# Initialisations that leave the base as it is. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take something out of it, so that
# the adapter belongs to a base that lies nowhere.
INITIALISATIONS = (True, False, "gaussian", "orthogonal")
# Options of any value that the fold respects. Every other one must be off, those of future versions of peft, too.
FOLDED = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "runtime_config", "r", "rank_pattern", "lora_alpha", "alpha_pattern", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("use_rslora", "use_dora", "lora_bias", "modules_to_save", "trainable_token_indices"),
}

_LAYERS: tuple[type, ...] = (Linear, Embedding)  # and not what inherits from them


def check_options(options: Mapping[str, Any], where: str, error: type[BundleError | ConfigError]) -> None:
    """`error` unless an adapter of these options of peft's LoraConfig can be folded into its base."""
    if (kind := options.get("peft_type")) != "LORA":
        raise error(f"{where}: is an adapter of type {kind}; only LoRA can be folded into its base")
    if (bias := options.get("bias", "none")) != "none":
        raise error(
            f"{where}.bias={bias}: biases of the base cannot be trained beside an adapter; only `none` is allowed"
        )
    if (chosen := options.get("init_lora_weights", True)) not in INITIALISATIONS:
        raise error(
            f"{where}.init_lora_weights={chosen}: changes the base's own weights, so that the adapter could not be "
            "folded into the base as it is; allowed: true, false, gaussian, orthogonal"
        )
    known = {field.name: field.default for field in dataclasses.fields(LoraConfig)}
    for key, value in options.items():
        if key in FOLDED or key in ("bias", "init_lora_weights") or not value or value == known.get(key):
            continue
        raise error(f"{where}.{key}: an adapter with this option cannot be folded into its base; leave it out")


def check_layers(adapted: nn.Module, where: str, error: type[BundleError | ConfigError]) -> None:
    """`error` unless all that peft put into a model can be folded into the layers below it."""
    for name, module in adapted.named_modules():
        why = _why_not(module)
        if why:
            raise error(f"{where}: {name}: {why}")


def _why_not(module: nn.Module) -> str | None:
    if isinstance(module, LoraLayer):
        if module.__class__ not in _LAYERS:
            return (
                f"an adapter on a {type(module.get_base_layer()).__name__} cannot be folded into it; allowed: linear "
            )
            "layers and embeddings"
        if strange := [
            v for v in module.lora_variant.values() if type(v) not in (DoraLinearVariant, DoraEmbeddingVariant)
        ]:
            return f"{type(strange[0]).__name__} cannot be folded into its base; allowed: LoRA, rsLoRA and DoRA"
        if any(module.lora_bias.values()) and getattr(module.get_base_layer(), "bias", None) is None:
            return "lora_bias=true, and this layer of the base has no bias that it could be folded into"
        return None
    known = (ModulesToSaveWrapper, TrainableTokensWrapper, TrainableTokensLayer)
    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not isinstance(module, known):
        return f"{type(module).__name__} cannot be folded into its base"
    return None


def check_adapter(adapter: LoraConfig, config: Any, where: str) -> None:
    """ConfigError unless an adapter of these options, on the model of `config`, can be exported once it is trained.

    Takes no weights: the adapter is put on a model that holds none.
    """
    check_options(dataclasses.asdict(adapter), where, ConfigError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft tells here what becomes an error below
        try:
            adapted = get_peft_model(hollow(config).model, copy.deepcopy(adapter), low_cpu_mem_usage=True)
        except (ValueError, TypeError, NotImplementedError) as problem:
            told = str(problem).splitlines()[0]
            raise ConfigError(f"{where}: peft refuses it for a {config.model_type}: {told}") from None
    check_layers(adapted.get_base_model(), where, ConfigError)
