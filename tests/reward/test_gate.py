"""ArmoRM's steps: the ridge finds what is linear, and verbosity is taken out of the other attributes."""

from __future__ import annotations

import pytest

from guard.errors import BundleError, DataError
from guard.reward.supervision import Item
from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # torch and what is above it take seconds to import

torch = lazy("torch")
gate = lazy("guard.reward.gate")
heads = lazy("guard.reward.heads")


def test_ridge_finds_each_attribute_though_values_are_missing():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(300, 6, generator=generator)
    truth, offsets = torch.randn(2, 6, generator=generator), torch.tensor([3.0, -1.0])
    values = states @ truth.T + offsets
    values[::3, 1] = torch.nan
    weight, offset = gate.ridge(states, values)
    assert weight.flatten().tolist() == pytest.approx(truth.flatten().tolist(), abs=1e-3)
    assert offset.tolist() == pytest.approx(offsets.tolist(), abs=1e-3)


def test_an_attribute_of_few_answers_is_refused():
    item = Item((1,), (2,), values=(1.0, None))
    with pytest.raises(DataError, match="attribute 'truth' is known of 0 answers; a ridge regression needs >= 10"):
        gate.fit_attributes(None, ("help", "truth"), [item] * 12, seed=0)


def test_verbosity_is_taken_out():
    generator = torch.Generator().manual_seed(1)
    long = torch.randn(500, generator=generator)
    helpful = torch.randn(500, generator=generator) + 0.8 * long
    fitted = torch.stack([helpful, long], 1)
    mixed = fitted @ gate.without_verbosity(fitted, ["helpfulness", "verbosity"]).T
    assert abs(float(torch.corrcoef(mixed.T)[0, 1])) < 1e-3
    assert (mixed[:, 1] == long).all()
    assert (gate.without_verbosity(fitted, ["a", "b"]) == torch.eye(2)).all()


@pytest.mark.parametrize("kind", ["linear", "critic", "gated"])
def test_a_head_is_saved_and_loaded_the_same(tmp_path, kind):
    torch.manual_seed(2)
    head = heads.KINDS[kind](8, ("help", "truth"), [0.25, 0.75]).eval()
    heads.save_head(head, tmp_path)
    again = heads.load_head(tmp_path, 8)
    state, prompt = torch.randn(2, 3, 8)
    assert (again.kind, again.names) == (kind, ("help", "truth"))
    for before, after in zip(head(state, prompt), again(state, prompt), strict=True):
        assert after.tolist() == before.tolist()
    with pytest.raises(BundleError, match="no head for a base of width 16"):
        heads.load_head(tmp_path, 16)
    with pytest.raises(BundleError, match="no head"):
        heads.load_head(tmp_path / "nothing", 8)
