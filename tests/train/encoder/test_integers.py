"""The rounding of the int8 form. What becomes of it in a graph: tests/engines/test_mini.py."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from transformers import BertConfig

from guard import calibration, policy
from guard.calibration import Calibration
from guard.errors import BundleError
from guard.train.encoder import model as encoder
from guard.train.encoder.export import bundle_encoder
from guard.train.encoder.integers import TOP, rounded
from tests.fixtures import tiny_encoder


def test_values_are_kept_to_half_a_step_of_their_row() -> None:
    weight = torch.randn(64, 48, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 64)[:, None]
    levels, scales = rounded(weight)
    assert levels.dtype == torch.int8
    assert int(levels.abs().max()) == TOP
    assert bool(((levels * scales[:, None] - weight).abs() <= 0.501 * scales[:, None]).all())


def test_a_row_of_zeros_stays_one() -> None:
    levels, scales = rounded(torch.zeros(2, 3))
    assert not levels.any()
    assert bool((scales > 0).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    weight = torch.ones(2, 3)
    weight[1, 2] = bad
    with pytest.raises(BundleError, match="not a finite number"):
        rounded(weight)


def test_an_unknown_form_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'int2': an encoder's forms are fp16, int8, int4"):
        bundle_encoder(tmp_path, {}, tmp_path / "out", "int2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's exporter warns at will
def test_a_run_becomes_a_checked_bundle_that_torch_opens_again(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "bundle"
    run.mkdir()
    folder.mkdir()
    torch.manual_seed(0)
    config = BertConfig(**tiny_encoder.SHAPE, vocab_size=tiny_encoder.tokenizer().get_vocab_size())
    model = encoder.ConditionedEncoder(config).eval()
    encoder.save(model, run)
    tiny_encoder.write_tokenizer(run / "tokenizer.json")
    rules = policy.load("minimal")
    (run / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    calibration.write(Calibration(), folder / "calibration.json")
    sizes = {"max_tokens": tiny_encoder.MAX_TOKENS, "overlap": tiny_encoder.OVERLAP}
    record = {"base": "random", "policy": rules.digest, "config": sizes, "data": None}
    fields, parity = bundle_encoder(run, record, folder, "int8")
    assert fields["kind"] == "mini"
    assert parity["alone_vs_batch"] <= 1e-3
    assert parity["torch_vs_onnx"] <= 1e-2
    assert 0 < parity["fp32_vs_stored"] < 0.1
    again = encoder.load(folder)
    assert torch.allclose(again.head.key.weight, model.head.key.weight, atol=0.05)
    assert torch.equal(again.head.match.weight.half(), model.head.match.weight.half())
