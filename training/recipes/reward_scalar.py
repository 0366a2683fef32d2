"""Train a reward model with a scalar head: Bradley-Terry, HelpSteer2, SteerLM's attributes, ArmoRM or CLoud.

What it does: an adapter (LoRA) on a causal language model learns a number at the end of an answer, from pairs, from
rated answers, or from first the one and then the other. ArmoRM leaves the base as it is and fits a ridge regression and
a gate. CLoud writes a review first. `system` names a row of guard/reward/systems.py, which holds the stages, what each
needs, and where it departs from TRL's defaults.

Departs from the papers: adapters instead of all weights, token ids by guard's own renderer, texts that are too long
lose their middle, and prompts in our own words.

Launch:  guard train reward-bt --base FOLDER --data PAIRS.jsonl
         guard train reward-bt system=armorm --base FOLDER --data ROWS.jsonl
         python -P training/recipes/reward_scalar.py CONFIG.yaml [key=value …]
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
    from guard.reward.base import Base
    from guard.reward.finish import finish
    from guard.reward.gate import STEPS, fit_gate
    from guard.reward.run import begin
    from guard.reward.stage import fit_stage

    run = begin(config, system, path)
    if run is None:
        return
    if system.name == "armorm":
        rated, pairs = (run.items(stage, run.rows(stage), {}) for stage in system.stages)
        steps = int(config.trainer.get("max_steps", STEPS))
        head = fit_gate(Base.open(run.base, run.prompts.pad), run.attributes, rated, pairs, config.seed, steps)
        finish(run, None, head)
        return
    adapter = None
    for stage in system.stages:
        adapter = fit_stage(run, stage, adapter)
    finish(run, adapter)


if __name__ == "__main__":
    run_recipe(main)
