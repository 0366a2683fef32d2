"""Train a reward model on a causal language model: any system of guard/reward/systems.py but the small encoder.

What it does: the table of systems names the stages of each, what they learn from, and the trainer of each; the stages
run in order, each from the adapter (LoRA) that the one before left. Scalar systems learn a number at the end of an
answer (`bt`, `helpsteer2`, `steerlm`, `cloud` behind a review; `armorm` leaves the base as it is and fits a ridge
regression and a gate). Generative ones learn to write a verdict (`verifier`, `pair`, `genrm`), or reasons and a verdict
(`verifier-cot`, `cot-genrm`, `con-j`, `djpo`), of which the last three let the model itself judge the training pairs,
in both orders, and learn its right judgements against its wrong ones. `kto` and `dpo` align a chat model, whose reward
is β times how much more probable it makes an answer than the base does; `guard-kto` and `guard-dpo` learn the verdicts
of a guard under a policy.

Departs from the papers: adapters instead of all weights; token ids by guard's own renderer; texts that are too long
lose their middle; prompts in our own words; judgements are the model's own and no stronger model's (rows may bring
reasons in a column `critique`, which are imitated first).

Launch:  guard train reward-bt --base FOLDER --data PAIRS.jsonl
         guard train reward-judge system=con-j --base FOLDER --data PAIRS.jsonl
         guard train reward-dpo system=guard-kto policy=mlcommons --base FOLDER --data ROWS.jsonl
         python -P training/recipes/reward.py CONFIG.yaml [key=value …]
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
    learnt = None
    for stage in system.stages:
        learnt = fit_stage(run, stage, learnt)
    finish(run, learnt)


if __name__ == "__main__":
    run_recipe(main)
