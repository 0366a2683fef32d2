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

torch, quantise = lazy("torch"), lazy("guard.train.causal.quantise")

ODDS = arrays(np.float64, 6, elements=st.floats(-30, 30))
CACHE = Path("engines")
INPUTS = [
    Input("input_ids", ("batch", "tokens")),
    Input("attention_mask", ("batch", "past + tokens")),
    Input("past_index", ("batch",)),
    Input("past.0.key", ("kept", 8, "past", 64)),
]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 70), st.sampled_from([4, 8]))
def test_a_block_is_off_by_half_a_step_at_most(seed: int, outputs: int, inputs: int, bits: int) -> None:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    packed = quantise.packed(weight, bits)
    back = quantise.unpacked(packed)
    assert back.shape == weight.shape
    step = np.repeat(packed.scales, quantise.BLOCK, axis=1)[:, :inputs]
    # Half a step for the value, half for the zero point that is rounded itself, and the rounding of fp32.
    assert (np.abs((back - weight).numpy()) <= 1.001 * np.abs(step) + 1e-6).all()


def test_more_bits_keep_more() -> None:
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    lost = {bits: float((quantise.unpacked(quantise.packed(weight, bits)) - weight).abs().max()) for bits in (4, 8)}
    assert 0 < lost[8] < lost[4] / 8


def test_what_is_not_a_number_cannot_be_rounded() -> None:
    weight = torch.zeros(4, 32)
    weight[1, 2] = float("nan")
    with pytest.raises(BundleError, match="not a finite number"):
        quantise.packed(weight, 8)


def test_each_form_keeps_what_it_says() -> None:
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    for form in quantise.FORMS.values():
        linear, table, head = (quantise.kept(weight, form, role) for role in ("linear", "table", "head"))
        assert torch.equal(linear, weight) == (form.name == "fp32")
        assert torch.equal(table, weight) == (form.name == "fp32")
        if form.bits:
            assert torch.equal(table, weight.half().float())
            assert torch.equal(head, quantise.unpacked(quantise.packed(weight, 8)))
        # A head that was cut to fewer rows than a block has inputs is too small to be worth rounding.
        few = quantise.kept(weight[:8], form, "head")
        assert torch.equal(few, weight[:8]) == (form.bits is not None or form.name == "fp32")


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
