"""The encoder's head: attention that begins without a say, and guards of version 0.1, which lack it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.errors import ConfigError
from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # they build a model of transformers
torch, safetensors, transformers = lazy("torch"), lazy("safetensors.torch"), lazy("transformers")
encoder = lazy("guard.train.encoder.model")
CONFIG = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}


def made(folder: Path, *, without: tuple[str, ...] = ()) -> encoder.ConditionedEncoder:
    torch.manual_seed(1)
    model = encoder.ConditionedEncoder(transformers.BertConfig(**CONFIG)).eval()
    encoder.save(model, folder)
    weights = safetensors.load_file(folder / "model.safetensors")
    safetensors.save_file(
        {name: value for name, value in weights.items() if not name.startswith(without)}, folder / "model.safetensors"
    )
    return model


def judged(model: encoder.ConditionedEncoder, pad: int = 0) -> tuple[torch.Tensor, ...]:
    ids = torch.tensor([[1, 5, 9, 2] + [0] * pad])
    mask = (torch.arange(4 + pad) < 4).long()[None]
    with torch.no_grad():
        return model(ids, mask, torch.zeros_like(ids), torch.ones(3, CONFIG["hidden_size"]))


def test_a_guard_of_the_first_version_judges_as_it_did(tmp_path: Path) -> None:
    old = made(tmp_path, without=encoder.ADDED)
    one, two = encoder.load(tmp_path).eval(), encoder.load(tmp_path).eval()
    torch.testing.assert_close(judged(one), judged(old))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_other_weights_must_all_be_there(tmp_path: Path) -> None:
    made(tmp_path, without=("head.out.",))
    with pytest.raises(ConfigError, match="2 weights are missing"):
        encoder.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert"


def test_padding_is_not_attended_to_and_attention_has_a_say_once_it_has_values(tmp_path: Path) -> None:
    model = made(tmp_path)
    silent = judged(model)[1]
    torch.manual_seed(2)
    torch.nn.init.normal_(model.head.value.weight)
    torch.testing.assert_close(judged(model), judged(model, pad=5))
    assert (judged(model)[1] - silent).abs().max() > 1e-3


def test_centred_vectors_point_everywhere() -> None:
    torch.manual_seed(1)
    model = encoder.ConditionedEncoder(transformers.BertConfig(**CONFIG)).eval()
    torch.nn.init.constant_(model.encoder.encoder.layer[-1].output.LayerNorm.bias, 3.0)  # one direction for all
    rows = [((1, first, second, 2), (0,) * 4) for first in range(5, 9) for second in range(10, 14)]

    def mean() -> torch.Tensor:
        with torch.no_grad():
            return model.embed(**encoder.padded(rows, 0)).mean(0)

    assert mean().abs().mean() > 0.8
    encoder.centre(model, rows, 0)
    assert mean().abs().mean() < 0.1
