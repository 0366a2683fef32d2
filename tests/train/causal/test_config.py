"""What the causal recipe refuses at once: keys that contradict each other, and changes to a run that goes on."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guard import assets, schema
from guard.errors import ConfigError
from guard.train.causal.config import FREE, Config, check, free_trainer
from guard.train.common.identity import claim, made_of

CONFIGS = ("cpu-tiny", "custom-policy", "full-ft", "lora-1gpu", "lora-24gb", "lora-8gpu-fsdp", "small")


def config(name: str, **changes: Any) -> Config:
    path = assets.asset(f"training/configs/{name}.yaml")
    return dataclasses.replace(schema.load(path, Config, ConfigError), **changes)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configurations_contradict_nothing(name: str) -> None:
    check(config(name), name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qlora": True, "lora": None}, "here: qlora trains an adapter .* give a section `lora`"),
        ({"patience": 3, "dev_rows": 0}, "here: patience=3 waits for a better AUPRC"),
        ({"trainer": {"activation_checkpointing": True}}, "trainer.activation_checkpointing .* set share_prefix=false"),
        ({"keep": "best", "checkpoint_steps": 20, "judge_steps": 30}, "a multiple of judge_steps=30, .*keep=last"),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(config("small", **changes), "here")


def test_a_row_must_have_room_for_a_conversation() -> None:
    path = assets.asset("training/configs/small.yaml")
    with pytest.raises(ConfigError, match="row_tokens"):
        schema.load(path, Config, ConfigError, ["row_tokens=20"])


def test_a_configuration_is_checked_before_torch_is_imported() -> None:
    code = "import sys, guard.cli.train, guard.train.causal.config; print({'torch', 'trl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_that_goes_on_may_lie_elsewhere_and_be_longer_but_have_no_other_data(tmp_path: Path) -> None:
    def begin(data: str = "one", **changes: Any) -> None:
        options = config("small", **changes)
        made = made_of(options, FREE, {"data": data})
        kept = set(made["trainer"]) - set(free_trainer(options.trainer))
        made["trainer"] = {key: value for key, value in made["trainer"].items() if key in kept}
        claim(tmp_path / "run", made)

    begin()
    begin(data="one", base="/elsewhere/base", precision="fp32", judge_steps=50)
    trainer = dict(config("small").trainer)
    begin(trainer={**trainer, "max_steps": 9000, "lr_scheduler_kwargs": {"num_decay_steps": 7}})
    with pytest.raises(ConfigError, match=re.escape('differs in digests.data (was "one", is "two")')):
        begin(data="two")
    with pytest.raises(ConfigError, match=r"differs in trainer\.learning_rate"):
        begin(trainer={**trainer, "learning_rate": 1.0})
    falling = {**trainer, "lr_scheduler_type": "linear"}
    assert "max_steps" not in free_trainer(falling)
    assert json.loads((tmp_path / "run" / "started.json").read_text())["frozen_layers"] == 10
