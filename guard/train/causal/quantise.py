"""The forms that a causal graph's weights can take, and what each form keeps of a tensor.

Linear layers of int8 and int4 are cut into blocks of `BLOCK` inputs, each with a scale and a zero point of its own
(round to nearest; ONNX Runtime's MatMulNBits and its packing). Their embeddings, which are looked up and not
multiplied, are kept in fp16, and a full output layer in 8 bits: it decides, and is read once a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime.capi import _pybind_state as native
from torch import Tensor

from guard.errors import BundleError

BLOCK = 32  # inputs that share a scale
Role = Literal["linear", "head", "table", "other"]  # head: the output layer; table: the embedding


@dataclass(frozen=True, slots=True)
class Form:
    """How weights are stored and computed. bits: of linear layers, None for `stored` everywhere."""

    name: str
    stored: torch.dtype
    arithmetic: torch.dtype
    bits: int | None
    furthest: float  # largest |Δp| between torch and ONNX on the same stored weights
    what: str

    def bits_of(self, role: Role, rows: int) -> int | None:
        """Bits of a tensor of `rows` outputs, None where it is not cut into blocks."""
        if self.bits is None or role not in ("linear", "head") or rows < BLOCK:
            return None
        return 8 if role == "head" else self.bits

    def type_of(self, role: Role) -> torch.dtype:
        """The type of a tensor that is not cut into blocks."""
        if self.bits is not None:
            return torch.float16 if role == "table" else self.arithmetic
        return self.arithmetic if role == "other" else self.stored


FORMS = {
    form.name: form
    for form in (
        Form("fp32", torch.float32, torch.float32, None, 1e-3, "everything in fp32"),
        Form("fp16", torch.float16, torch.float16, None, 1e-2, "stored and computed in fp16, keys and values too"),
        Form("bf16", torch.bfloat16, torch.float32, None, 1e-3, "stored in bf16, computed in fp32"),
        Form("int8", torch.float32, torch.float32, 8, 1e-3, "linear layers in blocks of 8 bits, computed in fp32"),
        Form("int4", torch.float32, torch.float32, 4, 1e-3, "linear layers in blocks of 4 bits, computed in fp32"),
    )
}


def form_of(name: str) -> Form:
    """BundleError names the forms there are."""
    if name not in FORMS:
        raise BundleError(f"form {name!r} is unknown; one of {', '.join(FORMS)}")
    return FORMS[name]


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight [outputs, inputs] as MatMulNBits reads it.

    blocks uint8 [outputs, blocks, BLOCK * bits / 8], the lower half byte first; scales fp32 [outputs, blocks];
    zeros uint8 [outputs, blocks * bits / 8, rounded up].
    """

    bits: int
    inputs: int
    blocks: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.uint8]


def packed(weight: Tensor, bits: int) -> Packed:
    """The weight [outputs, inputs] rounded to blocks. BundleError if it holds numbers that are not finite."""
    if not bool(torch.isfinite(weight).all()):
        raise BundleError("a weight is not a finite number; this run cannot be quantised, look at its training")
    outputs, inputs = weight.shape
    count = -(-inputs // BLOCK)
    columns = np.zeros((count * BLOCK, outputs), np.float32)
    columns[:inputs] = weight.float().numpy().T
    blocks = np.zeros((outputs, count, BLOCK * bits // 8), np.uint8)
    scales = np.zeros((outputs, count), np.float32)
    zeros = np.zeros((outputs, -(-count * bits // 8)), np.uint8)
    write = {8: native.quantize_matmul_8bits, 4: native.quantize_matmul_4bits}[bits]
    write(blocks, columns, scales, zeros, BLOCK, outputs, inputs, False)
    return Packed(bits, inputs, blocks, scales, zeros)


def unpacked(weight: Packed) -> Tensor:
    """What the blocks say: fp32 [outputs, inputs]."""
    outputs, count = weight.scales.shape
    levels = _levels(weight.blocks.reshape(outputs, -1), weight.bits).reshape(outputs, count, BLOCK)
    middle = _levels(weight.zeros, weight.bits)[:, :count, None]
    values = (levels.astype(np.float32) - middle) * weight.scales[..., None]
    return torch.from_numpy(values.reshape(outputs, -1)[:, : weight.inputs].copy())


def _levels(found: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[Any]:
    if bits == 8:
        return found
    return np.stack([found & 15, found >> 4], -1).reshape(len(found), -1)


def kept(weight: Tensor, form: Form, role: Role) -> Tensor:
    """What is left of a tensor once it is stored in a form: fp32 of the same shape."""
    bits = form.bits_of(role, len(weight)) if weight.dim() == 2 else None
    if bits is not None:
        return unpacked(packed(weight, bits))
    return weight.to(form.type_of(role)).float()
