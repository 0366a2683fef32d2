"""The folder of a causal run: killed at any moment, it is finished, goes on or begins again, and never in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.train.causal import run_folder as folder
from guard.train.common.identity import LOCK, STARTED

MADE_OF = {"base": "tiny", "trainer": {"learning_rate": 1e-4, "max_steps": 8}, "codes": frozenset({"b", "a"})}


def checkpoint(out: Path, step: int, state: str | None = "{}") -> Path:
    made = out / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    if state is not None:
        (made / "trainer_state.json").write_text(state, encoding="utf-8")
    return made


def stage_all(out: Path) -> None:
    made = folder.stage(out)
    (made / "adapter").mkdir()
    (made / "adapter" / "adapter_model.safetensors").write_bytes(b"best")
    (made / "policy.yaml").write_text("id: p", encoding="utf-8")
    (made / "run.json").write_text("{}", encoding="utf-8")


def test_a_run_goes_on_from_its_last_whole_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert folder.begin(out, MADE_OF) is None
    assert folder.begin(out, MADE_OF) is None
    checkpoint(out, 9)
    last = checkpoint(out, 10)
    assert folder.begin(out, MADE_OF) == last


@pytest.mark.parametrize("state", [None, "", '{"global_step": 1'])
def test_a_checkpoint_that_was_not_written_to_its_end_is_removed(tmp_path: Path, state: str | None) -> None:
    folder.begin(tmp_path / "run", MADE_OF)
    whole, broken = checkpoint(tmp_path / "run", 10), checkpoint(tmp_path / "run", 20, state)
    assert folder.begin(tmp_path / "run", MADE_OF) == whole
    assert not broken.exists()


def test_a_run_made_of_something_else_is_an_error_that_tells_the_keys(tmp_path: Path) -> None:
    folder.begin(tmp_path, MADE_OF)
    checkpoint(tmp_path, 3)
    other = {**MADE_OF, "trainer": {"learning_rate": 2e-4, "max_steps": 8}}
    with pytest.raises(ConfigError, match=r"trainer.learning_rate \(was 0.0001, is 0.0002\)\. Choose another folder"):
        folder.begin(tmp_path, other)
    assert (tmp_path / "checkpoints" / "checkpoint-3").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not empty and not a run of this recipe"):
        folder.begin(tmp_path, MADE_OF)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_killed_before_it_was_begun_begins(tmp_path: Path) -> None:
    (tmp_path / f".{STARTED}").write_text('{"bas', encoding="utf-8")
    assert folder.begin(tmp_path, MADE_OF) is None
    assert json.loads((tmp_path / STARTED).read_text(encoding="utf-8"))["codes"] == ["a", "b"]


@pytest.mark.parametrize("moved", [(), ("adapter",), ("adapter", "policy.yaml")])
def test_a_run_killed_while_it_was_published_is_published_again(tmp_path: Path, moved: tuple[str, ...]) -> None:
    folder.begin(tmp_path, MADE_OF)
    last = checkpoint(tmp_path, 8)
    stage_all(tmp_path)
    for name in moved:
        (folder.stage(tmp_path) / name).replace(tmp_path / name)
    assert not folder.is_finished(tmp_path)
    assert folder.begin(tmp_path, MADE_OF) == last
    stage_all(tmp_path)
    folder.publish(tmp_path)
    assert folder.is_finished(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {LOCK, "adapter", "checkpoints", "policy.yaml", "run.json", "started.json"}
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == b"best"
