"""A matrix in 4 bits: each block of 32 numbers of a row has a scale, and a level from -8 to 7 for each number."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
LEAST, MOST = -8, 7  # levels of 4 bits, two's complement
_LEAST_SCALE = 2.0**-24  # of fp16, above 0


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, width] as bytes [rows, width / 2], the first of two levels in the lower half, and scales fp16 [rows,
    width / 32]; level · scale is the value.

    Of two scales, by which the largest number of a block has the level -8 or 7, each block takes the one of the smaller
    squared error; so a matrix that had 4 bits before, in the blocks of GGUF's Q4_0, loses nothing.
    ValueError if the width is not a multiple of 32.
    """
    rows, width = weight.shape
    if width % BLOCK:
        raise ValueError(f"the width must be a multiple of {BLOCK} (got {width})")
    values = weight.detach().float().reshape(rows, width // BLOCK, BLOCK)
    largest = values.gather(2, values.abs().argmax(2, keepdim=True))
    levels, scales, error = _levels(values, largest / LEAST)
    others = _levels(values, largest / MOST)
    better = others[2] < error
    levels, scales = torch.where(better, others[0], levels), torch.where(better, others[1], scales)
    flat = levels.to(torch.int16).reshape(rows, width) & 15
    return (flat[:, ::2] | (flat[:, 1::2] << 4)).to(torch.uint8), scales.squeeze(2).half()


def unpacked(levels: Tensor, scales: Tensor) -> Tensor:
    """The matrix [rows, width] in fp32 of what `packed` gave."""
    rows, half = levels.shape
    both = torch.stack([levels & 15, levels >> 4], 2).to(torch.int8)
    signed = torch.where(both > MOST, both - 16, both).float()
    return (signed.reshape(rows, -1, BLOCK) * scales.float()[..., None]).reshape(rows, 2 * half)


def _levels(values: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels, scales as fp16 has them, and the squared error of each block."""
    scales = scales.half().float()
    scales = torch.where(scales.abs() < _LEAST_SCALE, torch.full_like(scales, _LEAST_SCALE), scales)
    levels = torch.round(values / scales).clamp(LEAST, MOST)
    return levels, scales, (levels * scales - values).square().sum(2, keepdim=True)
