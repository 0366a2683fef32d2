"""Align a chat model, or a guard, with preferences, and keep what it learnt as a reward: KTO and DPO.

What it does: an adapter (LoRA) on a causal language model learns which answers to give (`dpo` from pairs, `kto` from
single answers that are desirable or not), and its reward is β times how much more probable it makes an answer than the
base does. `guard-dpo` and `guard-kto` learn the verdicts of a guard under a policy in the same two ways, and are read
at the verdict, after they imitated the right ones. `system` names a row of guard/reward/systems.py.

Launch:  guard train reward-dpo --base FOLDER --data PAIRS.jsonl
         guard train reward-dpo system=guard-kto policy=mlcommons --base FOLDER --data ROWS.jsonl
         python -P training/recipes/preference.py CONFIG.yaml [key=value …]
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports its use otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

from guard import schema
from guard.errors import ConfigError
from guard.reward.config import Config, check
from guard.train.common.identity import resolved
from guard.train.common.run_folder import run_recipe


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    system = check(config, path)

    # A mistake in the configuration was told by now; torch and TRL take seconds to import.
    from guard.reward.finish import finish
    from guard.reward.run import begin
    from guard.reward.stage import fit_stage

    run = begin(config, system, path)
    if run is None:
        return
    adapter = None
    for stage in system.stages:
        adapter = fit_stage(run, stage, adapter)
    finish(run, adapter)


if __name__ == "__main__":
    run_recipe(main)
