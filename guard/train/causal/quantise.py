"""The forms that a causal graph's weights can take, and what each form keeps of a tensor.

Linear layers of int8 and int4 are multiplied in integers: their weights have one scale an output and 7 bits, what goes
into them one scale a token and 8 bits. Nothing in it depends on the batch, it needs no calibration rows, and the sums
of two products fit the 16 bits in which CPUs without VNNI add them. int8 keeps these weights as they are. int4 keeps
blocks of `BLOCK` inputs with 4 bits and a scale and a zero point a block, which become 7 bits an output when a session
opens. Both keep the embedding in blocks of 8 bits, as it has the most to lose; a full output layer that is tied to it
is those same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guard.errors import BundleError

BLOCK = 64  # inputs that share a scale
TOP = 63  # of a weight in 7 bits and a sign: twice 255 times it fits 16 bits
LEAST_SCALE = 1e-30  # of a token whose inputs all are 0
Role = Literal["linear", "head", "table", "other"]  # head: the output layer; table: the embedding


@dataclass(frozen=True, slots=True)
class Form:
    """How weights are stored and computed. bits: of linear layers, None for `stored` everywhere."""

    name: str
    stored: torch.dtype
    arithmetic: torch.dtype
    bits: Literal[4, 8] | None
    furthest: float  # largest |Δp| between torch and ONNX on the same stored weights
    what: str

    def integer(self, role: Role, rows: int) -> bool:
        """Whether a layer of `rows` outputs is multiplied in integers. An output layer that was cut to the tokens of
        verdicts (`other`) is not: it decides, and costs nothing."""
        return self.bits is not None and role in ("linear", "head") and rows >= BLOCK

    def blocks(self, role: Role, rows: int, inputs: int) -> int | None:
        """Bits of a tensor that is kept in blocks, None for one that is not."""
        if self.bits is None or rows < BLOCK or role == "other":
            return None
        if inputs % BLOCK:
            return None
        return 8 if role != "linear" else 4 if self.bits == 4 else None

    def type_of(self, role: Role) -> torch.dtype:
        """The type of a tensor that is neither in blocks nor multiplied in integers."""
        if self.bits is not None:
            return torch.float16 if role == "table" else self.arithmetic
        return self.arithmetic if role == "other" else self.stored


FORMS = {
    form.name: form
    for form in (
        Form("fp32", torch.float32, torch.float32, None, 1e-3, "everything in fp32"),
        Form("fp16", torch.float16, torch.float16, None, 1e-2, "stored and computed in fp16, keys and values too"),
        Form("bf16", torch.bfloat16, torch.float32, None, 1e-3, "stored in bf16, computed in fp32"),
        Form("int8", torch.float32, torch.float32, 8, 3e-2, "linear layers stored and multiplied in integers"),
        Form("int4", torch.float32, torch.float32, 4, 3e-2, "stored in blocks of 4 bits, multiplied in integers"),
    )
}


def form_of(name: str) -> Form:
    """BundleError names the forms there are."""
    if name not in FORMS:
        raise BundleError(f"form {name!r} is unknown; one of {', '.join(FORMS)}")
    return FORMS[name]


@dataclass(frozen=True, slots=True)
class Blocks:
    """A weight [outputs, inputs] in blocks of BLOCK inputs: (level - zero) * scale.

    levels uint8 [outputs, inputs], below 2**bits; scales fp16 and zeros uint8 [outputs, inputs / BLOCK].
    """

    bits: int
    levels: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float16]
    zeros: npt.NDArray[np.uint8]

    @property
    def weight(self) -> Tensor:
        """fp32 [outputs, inputs]."""
        outputs, inputs = self.levels.shape
        levels = self.levels.reshape(outputs, -1, BLOCK).astype(np.float32) - self.zeros[..., None]
        values = (levels * self.scales[..., None].astype(np.float32)).astype(np.float16)  # as ONNX Runtime rounds
        return torch.from_numpy(values.astype(np.float32).reshape(outputs, inputs))


@dataclass(frozen=True, slots=True)
class Channels:
    """A weight [outputs, inputs] with one scale an output: level * scale. levels int8, at most TOP; scales fp32."""

    levels: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]

    @property
    def weight(self) -> Tensor:
        """fp32 [outputs, inputs]."""
        return torch.from_numpy(self.levels.astype(np.float32) * self.scales[:, None])


def in_blocks(weight: Tensor, bits: int) -> Blocks:
    """The weight [outputs, inputs] rounded to blocks; its inputs are a multiple of BLOCK.

    The range of a block always holds 0. BundleError if the weight holds numbers that are not finite.
    """
    values = _finite(weight).reshape(len(weight), -1, BLOCK)
    scales, zeros = block_scales(weight, bits)
    wide = np.maximum(scales.astype(np.float32), np.finfo(np.float16).tiny)
    levels = (np.rint(values / wide[..., None]) + zeros[..., None]).clip(0, 2**bits - 1)
    return Blocks(bits, levels.reshape(weight.shape).astype(np.uint8), scales, zeros)


def block_scales(weight: Tensor, bits: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
    """What a level of each block stands for, and the level of 0; both [outputs, inputs / BLOCK]."""
    values = _finite(weight).reshape(len(weight), -1, BLOCK)
    top = 2**bits - 1
    low, high = values.min(-1).clip(max=0), values.max(-1).clip(min=0)
    scales = ((high - low) / top).astype(np.float16)
    wide = np.maximum(scales.astype(np.float32), np.finfo(np.float16).tiny)
    return scales, np.rint(-low / wide).clip(0, top).astype(np.uint8)


def in_channels(weight: Tensor) -> Channels:
    """The weight [outputs, inputs] rounded to 7 bits. BundleError if it holds numbers that are not finite."""
    values = _finite(weight)
    scales = channel_scales(weight)
    return Channels(np.rint(values / scales[:, None]).clip(-TOP, TOP).astype(np.int8), scales)


def channel_scales(weight: Tensor) -> npt.NDArray[np.float32]:
    """[outputs]: what one level of each output's weights stands for."""
    scales: npt.NDArray[np.float32] = np.abs(_finite(weight)).max(1) / np.float32(TOP)
    return np.maximum(scales, np.finfo(np.float32).tiny)


def _finite(weight: Tensor) -> npt.NDArray[np.float32]:
    if not bool(torch.isfinite(weight).all()):
        raise BundleError("a weight is not a finite number; this run cannot be quantised, look at its training")
    values: npt.NDArray[np.float32] = weight.float().numpy()
    return values


def rounded_tokens(values: Tensor) -> Tensor:
    """What an integer layer sees of its input [..., inputs]: 8 bits, with one scale a token."""
    scale = (values.abs().amax(-1, keepdim=True) * (1 / 127)).clamp(min=LEAST_SCALE)
    return torch.round(values / scale).clamp(-128, 127) * scale
