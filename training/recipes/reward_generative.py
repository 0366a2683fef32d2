"""Train a reward model that answers in words: verifiers, a pair preference model, GenRM, Con-J or DJPO.

What it does: an adapter (LoRA) on a causal language model learns to write a verdict on an answer, or on two, where the
systems with reasons write those first. `verifier` and `pair` imitate the right word; `genrm` also prefers it to the
wrong one. `cot-genrm`, `con-j` and `djpo` let the model itself write judgements of the training pairs, in both orders,
with a hint where it gets none right or none wrong, and learn the right ones against the wrong ones. A judgement that
ends with no verdict is dropped and counted. `system` names a row of guard/reward/systems.py.

Departs from the papers: adapters instead of all weights; the judgements are the model's own and no stronger model's
(rows may bring reasons in a column `critique`, which are imitated first); prompts in our own words.

Launch:  guard train reward-pair --base FOLDER --data PAIRS.jsonl
         guard train reward-judge system=con-j --base FOLDER --data PAIRS.jsonl
         python -P training/recipes/reward_generative.py CONFIG.yaml [key=value …]
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
