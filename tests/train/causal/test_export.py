"""The parts of a causal export that need no exported model: rounding, comparison, TensorRT's options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from guard.cli.export import Form
from guard.errors import BundleError, EngineError
from guard.train.causal.tensorrt import Input, Sizes, options, require
from guard.train.common.parity import BAND, difference, probabilities
from tests.fixtures.lazy import lazy

torch = lazy("torch")
quantise, rounding = lazy("guard.train.causal.quantise"), lazy("guard.train.causal.rounding")

ODDS = arrays(np.float64, 6, elements=st.floats(-30, 30))
CACHE = Path("engines")
INPUTS = [
    Input("input_ids", ("batch", "tokens")),
    Input("attention_mask", ("batch", "past + tokens")),
    Input("past_index", ("batch",)),
    Input("past.0.key", ("kept", 8, "past", 64)),
]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3), st.sampled_from([4, 8]))
def test_a_block_is_off_by_a_step_at_most(seed: int, outputs: int, count: int, bits: int) -> None:
    weight = torch.randn(outputs, count * quantise.BLOCK, generator=torch.Generator().manual_seed(seed))
    blocks = quantise.in_blocks(weight, bits)
    assert blocks.levels.max() < 2**bits
    assert blocks.weight.shape == weight.shape
    step = np.repeat(blocks.scales.astype(np.float32), quantise.BLOCK, axis=1)
    # Half a step for the value, half for the zero point that is rounded itself, and the rounding of scales to fp16.
    assert (np.abs((blocks.weight - weight).numpy()) <= 1.001 * step + 2e-3 * np.abs(weight.numpy()) + 1e-6).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 70))
def test_a_channel_is_off_by_half_a_step_and_its_sums_of_two_fit_16_bits(seed: int, outputs: int, inputs: int) -> None:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    channels = quantise.in_channels(weight)
    assert (np.abs((channels.weight - weight).numpy()) <= 0.5001 * channels.scales[:, None]).all()
    assert 2 * 255 * int(np.abs(channels.levels).max()) < 2**15


@settings(max_examples=20)
@given(arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32)))
def test_a_tokens_rounding_does_not_depend_on_its_neighbours(values: np.ndarray) -> None:
    found = quantise.rounded_tokens(torch.from_numpy(values))
    assert torch.equal(found[1:2], quantise.rounded_tokens(torch.from_numpy(values[1:2])))
    largest = np.abs(values).max(1, keepdims=True)
    assert (np.abs(found.numpy() - values) <= 0.501 * largest / 127 + 1e-30).all()


def test_more_bits_keep_more() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    lost = {bits: float((quantise.in_blocks(weight, bits).weight - weight).abs().max()) for bits in (4, 8)}
    assert 0 < lost[8] < lost[4] / 8


def test_what_is_not_a_number_cannot_be_rounded() -> None:
    weight = torch.zeros(4, quantise.BLOCK)
    weight[1, 2] = float("nan")
    for rounded in (quantise.in_channels, lambda tensor: quantise.in_blocks(tensor, 8)):
        with pytest.raises(BundleError, match="not a finite number"):
            rounded(weight)


def test_a_weight_of_zeros_stays_one() -> None:
    weight = torch.zeros(64, 64)
    for form in quantise.FORMS.values():
        for role in ("linear", "head", "table", "other"):
            assert torch.equal(rounding.kept("w", weight, form, role), weight)


def test_each_form_keeps_what_it_says() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    for form in quantise.FORMS.values():
        linear, table, head, cut = (
            rounding.kept("w", weight, form, role) for role in ("linear", "table", "head", "other")
        )
        assert torch.equal(linear, weight) == (form.name == "fp32")
        assert torch.equal(table, weight) == (form.name == "fp32")
        assert torch.equal(cut, weight) == (form.name != "fp16")
        if form.bits:
            fine, coarse = (quantise.in_blocks(weight, bits).weight for bits in (8, 4))
            assert torch.equal(table, fine)
            assert torch.equal(head, quantise.in_channels(fine).weight)
            assert torch.equal(linear, quantise.in_channels(weight if form.bits == 8 else coarse).weight)
            # Where blocks do not come out even, an embedding is kept in halves.
            odd = weight[:, :40]
            assert torch.equal(rounding.kept("w", odd, form, "table"), odd.half().float())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_what_is_rounded_with_regard_to_its_inputs_gives_more_like_products(seed: int, count: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    inputs = count * quantise.BLOCK
    few = torch.randn(400, 12, generator=draw) @ torch.randn(12, inputs, generator=draw)  # inputs that hang together
    given = few + 0.1 * torch.randn(400, inputs, generator=draw)
    weight = torch.randn(8, inputs, generator=draw)
    blocks = rounding.compensated(weight, 4, given.T @ given)
    assert blocks.levels.max() < 16
    lost = [float((given @ (each.weight - weight).T).pow(2).sum()) for each in (blocks, quantise.in_blocks(weight, 4))]
    assert lost[0] < 0.6 * lost[1]


def test_inputs_that_do_not_hang_together_are_rounded_to_the_nearest_level() -> None:
    weight = torch.randn(8, 2 * quantise.BLOCK, generator=torch.Generator().manual_seed(0))
    found, nearest = rounding.compensated(weight, 4, torch.eye(2 * quantise.BLOCK)), quantise.in_blocks(weight, 4)
    for each in ("levels", "scales", "zeros"):
        assert np.array_equal(getattr(found, each), getattr(nearest, each))


def test_an_input_that_is_always_0_needs_no_regard() -> None:
    weight = torch.randn(8, quantise.BLOCK, generator=torch.Generator().manual_seed(0))
    found = rounding.compensated(weight, 4, torch.zeros(quantise.BLOCK, quantise.BLOCK)).weight
    assert bool(torch.isfinite(found).all())
    with pytest.raises(BundleError, match="not a finite number"):
        rounding.compensated(weight * float("nan"), 4, torch.eye(quantise.BLOCK))


def test_the_command_offers_the_forms_that_there_are() -> None:
    assert [form.value for form in Form] == list(quantise.FORMS)
    with pytest.raises(BundleError, match="'int3' is unknown; one of fp32, fp16, bf16, int8, int4"):
        quantise.form_of("int3")


@given(ODDS)
def test_nothing_differs_from_itself(odds: np.ndarray) -> None:
    found = difference(odds, odds)
    assert (found.furthest, found.furthest_odds, found.flips) == (0, 0, 0)


@given(ODDS, arrays(np.float64, 6, elements=st.floats(-0.039, 0.039)))
def test_a_shift_inside_the_band_flips_nothing(odds: np.ndarray, shift: np.ndarray) -> None:
    found = difference(odds, odds + shift)
    assert found.flips == 0  # a log-odds of 0.039 is less than BAND around the threshold
    assert found.furthest <= BAND


@given(ODDS, ODDS)
def test_flips_are_what_lies_on_the_other_side(one: np.ndarray, other: np.ndarray) -> None:
    found = difference(one, other)
    sides = (one >= 0) != (other >= 0)
    assert found.flips <= sides.sum()
    assert found.flips >= (sides & (np.abs(probabilities(one) - 0.5) > BAND)).sum()
    assert found.furthest == pytest.approx(np.abs(probabilities(one) - probabilities(other)).max())


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_a_number_fails(broken: float) -> None:
    found = difference(np.array([1.0, 2.0]), np.array([1.0, broken]))
    assert (found.furthest, found.flips) == (1.0, 1)
    assert found.furthest_odds == np.inf


def test_profiles_name_every_input_in_three_sizes() -> None:
    sizes = Sizes(batch=(1, 4, 8), tokens=(1, 32, 512), past=(0, 100, 2000), kept=(1, 1, 8))
    given = options(INPUTS, CACHE, sizes, half=True, device=1)
    assert given["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1,past_index:1,past.0.key:1x8x0x64"
    assert given["trt_profile_opt_shapes"] == "input_ids:4x32,attention_mask:4x132,past_index:4,past.0.key:1x8x100x64"
    assert (
        given["trt_profile_max_shapes"] == "input_ids:8x512,attention_mask:8x2512,past_index:8,past.0.key:8x8x2000x64"
    )
    assert (given["trt_fp16_enable"], given["device_id"]) == ("True", "1")
    assert given["trt_engine_cache_path"] == str(CACHE)
    assert all(isinstance(value, str) for value in given.values())  # ONNX Runtime takes nothing else


def test_an_input_without_a_profile_is_an_error() -> None:
    with pytest.raises(BundleError, match="extra: dimension 'rows' is in no profile"):
        options([Input("extra", ("rows",))], CACHE, Sizes(), half=False)


def test_without_tensorrt_the_error_says_what_to_install() -> None:
    with pytest.raises(EngineError, match=r"has no TensorRT \(CPUExecutionProvider\): it needs .*onnxruntime-gpu"):
        require(["CPUExecutionProvider"])
    require(["TensorrtExecutionProvider", "CPUExecutionProvider"])


@pytest.mark.skipif("TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="it is there")
def test_the_command_says_so_before_it_exports(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from guard.cli import app

    told = CliRunner().invoke(
        app, ["export", str(tmp_path), str(tmp_path / "out"), "--tensorrt", str(tmp_path / "trt")]
    )
    assert isinstance(told.exception, EngineError)
    assert "onnxruntime-gpu" in str(told.exception)
    assert not (tmp_path / "trt").exists()
