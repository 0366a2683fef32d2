"""The base in 4 bits while an adapter learns (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), and its values after."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from guard.errors import need

_KIND = "nf4"
_TWICE = True  # the blocks' scales are rounded, too


def four_bits(wanted: bool, cuda: bool) -> BitsAndBytesConfig | None:
    """How the base is stored, if QLoRA is wanted; on a CPU, too, where it saves memory and no time.

    MissingExtra without bitsandbytes.
    """
    if not wanted:
        return None
    need("bitsandbytes", "qlora")
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=_KIND,
        bnb_4bit_use_double_quant=_TWICE,
        bnb_4bit_compute_dtype=torch.bfloat16 if cuda else torch.float32,
    )


def keep_stored(model: nn.Module) -> None:
    """Keeps the base's values as they are, whatever is asked of the model.

    On a CPU with bf16 instructions bitsandbytes packs a layer anew when it first answers without learning, and rounds
    its scales: a guard that is judged on its way would go on upon another base.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def rounded(weight: Tensor) -> Tensor:
    """A weight as it was while the adapter learnt. The adapter also makes up for the rounding: on the base's own values
    it would be the adapter of another model. MissingExtra without bitsandbytes."""
    bits = need("bitsandbytes", "qlora").functional
    stored, state = bits.quantize_4bit(weight, quant_type=_KIND, compress_statistics=_TWICE)
    found: Tensor = bits.dequantize_4bit(stored, state)
    return found
