"""Matrices in four bits: what is packed comes back, to half a level of its block."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.train.encoder.blocks import BLOCK, packed, unpacked


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 5), blocks=st.integers(1, 3), exponent=st.integers(-4, 4), seed=st.integers(0, 999))
def test_numbers_come_back_to_half_a_level_of_their_block(rows: int, blocks: int, exponent: int, seed: int) -> None:
    weight = torch.randn(rows, blocks * BLOCK, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    levels, scales = packed(weight)
    assert (levels.dtype, scales.dtype) == (torch.uint8, torch.float16)
    assert levels.shape == (rows, blocks * BLOCK // 2)
    assert scales.shape == (rows, blocks)
    step = scales.float().abs().repeat_interleave(BLOCK, 1)
    largest = weight.abs().reshape(rows, blocks, BLOCK).amax(2).repeat_interleave(BLOCK, 1)
    assert bool(((unpacked(levels, scales) - weight).abs() <= 0.51 * step + 0.07 * largest + 1e-7).all())


def test_what_had_four_bits_loses_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(-8, 8, (64, 4, BLOCK), generator=generator).float()
    levels[:, :, 0] = -8.0
    weight = (levels * torch.rand(64, 4, 1, generator=generator).half().float()).reshape(64, 4 * BLOCK)
    assert torch.equal(unpacked(*packed(weight)), weight)


def test_zeros_stay_zeros_and_other_widths_are_refused() -> None:
    assert not unpacked(*packed(torch.zeros(2, BLOCK))).any()
    with pytest.raises(ValueError, match="multiple of 32"):
        packed(torch.zeros(2, BLOCK + 1))
