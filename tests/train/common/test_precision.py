"""In which precision a CPU trains: bf16 only where the processor computes in it."""

from __future__ import annotations

import pytest

from tests.fixtures.lazy import lazy

torch, precision = lazy("torch"), lazy("guard.train.common.precision")


def test_bf16_is_used_where_the_processor_has_it_and_its_lack_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    flags = torch.cpu.get_capabilities()
    assert precision.computes_bf16() == any(flags[name] for name in flags if "bf16" in name)
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    with precision.cpu_autocast(bf16=True):
        wanted = left @ right
    told = capsys.readouterr().out
    with precision.cpu_autocast(bf16=False):
        plain = left @ right
    assert wanted.dtype is (torch.bfloat16 if precision.computes_bf16() else torch.float32)
    assert ("no instructions for it" in told) != precision.computes_bf16()
    assert plain.dtype is torch.float32
    assert not capsys.readouterr().out
