"""Train a policy against rewards: GRPO or RLOO, with a guard, a reward model, or both as named components.

What it does: TRL samples several answers to each prompt, `guard.rewards` scores them (safe, not a refusal, helpful),
and the policy learns to give the better ones. Before and after, answers to held-out prompts are scored, so that the run
says what changed: the mean of each component, the share of refusals on harmless prompts, the length. PPO is gone from
TRL; for PPO serve the same rewards to OpenRLHF or verl (docs/rewards.md).

A guard alone teaches to refuse everything: that is `weights={safe: 1}`, to be seen and not to be used.

Launch:  guard train rl --base FOLDER --data PROMPTS.jsonl
         guard train rl algorithm=rloo reward_model=runs/reward-bt --base FOLDER --data PROMPTS.jsonl
         python -P training/recipes/rl.py CONFIG.yaml [key=value …]
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports its use otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from guard import schema
from guard.errors import ConfigError, DataError
from guard.reward.components import WEIGHTS
from guard.reward.load import held_out, load_rows
from guard.reward.row import RewardRow, plain_messages
from guard.rewards import RewardFunction, make_reward
from guard.train.common.identity import base_digest, contents, made_of, resolved
from guard.train.common.run_folder import run_recipe, write_run

# What a resumed run may change. What it reads and is rewarded by may move, and is known by its digests.
FREE = ("out", "base", "data", "guard", "server", "policy", "reward_model", "others", "checkpoint_steps")
REPLACED = {"max_completion_length": "completion_tokens"}


@dataclass(frozen=True)
class Config:
    """See training/configs/rl.yaml for the effect of each setting."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    base: str
    data: str
    out: str
    algorithm: Literal["grpo", "rloo"] = "grpo"
    guard: str | None = None
    server: str | None = None
    policy: str | None = None
    reward_model: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    lowest: float | None = None
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    completion_tokens: PositiveInt = 64
    checkpoint_steps: PositiveInt = 50
    device: Literal["auto", "cuda", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 7
    lora: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    reward = make_reward(
        config.guard, config.server, config.policy, config.reward_model, config.weights, config.others, config.lowest
    )

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, PrinterCallback, ProgressCallback
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    from guard.reward.base import Base
    from guard.train.causal import base as bases
    from guard.train.causal import run_folder
    from guard.train.causal.checkpoint import loadable, model_folder
    from guard.train.causal.trainer import Progress
    from guard.train.common.precision import trains_in_bf16

    # The rows: prompts, and whether refusing is right (a row's verdict `unsafe`).
    cuda = bases.on_cuda(config.device, 1, False, path)
    bf16 = trains_in_bf16(config.precision, cuda)
    base_model, data, out = loadable(config.base), Path(config.data), Path(config.out)
    bases.tokenizer_of(base_model)  # a base that is none is told before the rows are read
    train, apart = held_out(load_rows(data), config.held_out, config.seed)
    if not train:
        raise DataError(f"{data}: held_out={config.held_out:g} leaves no prompts to learn from")
    inputs = {
        "data": contents(data),
        "base": base_digest(model_folder(base_model, {})),
        "reward": reward.components.digests,
    }
    checkpoint = run_folder.begin(out, made_of(config, FREE, inputs))
    if run_folder.is_finished(out):
        print(f"{out}: is finished already")
        return

    # The trainer.
    cls, arguments_cls = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[config.algorithm]
    arguments = bases.passed_through(
        {"report_to": "none", "logging_steps": 1, "activation_checkpointing": False, **config.trainer},
        arguments_cls,
        "trainer",
        instead=REPLACED,
        output_dir=str(out / "checkpoints"),
        seed=config.seed,
        use_cpu=not cuda,
        bf16=bf16,
        max_completion_length=config.completion_tokens,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        disable_tqdm=True,
    )
    options = {"target_modules": "all-linear", "r": 16, "lora_alpha": 32, **config.lora}
    adapter = bases.passed_through(options, LoraConfig, "lora", task_type="CAUSAL_LM")
    tokenizer = AutoTokenizer.from_pretrained(base_model, padding_side="left")
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"base {config.base!r}: has no chat template, which TRL renders prompts with; take a chat model"
        )
    rows = [{"prompt": plain_messages(row.prompt), "refusable": row.verdict == "unsafe"} for row in train]

    trainer = cls(
        model=base_model,
        reward_funcs=reward.trl,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    for silent in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(silent)
    trainer.add_callback(Progress())

    def measured(model: Any) -> dict[str, float]:
        """The components on held-out prompts, each answered once."""
        base = Base(model, trainer.processing_class.pad_token_id)
        return report(reward, apart, answers(base, tokenizer, apart, config.completion_tokens, config.seed))

    before = measured(trainer.accelerator.unwrap_model(trainer.model))
    print(f"held out before: {before}", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    # The run.
    staged = run_folder.stage(out)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(staged / "adapter", selected_adapters=["default"])
    after = measured(model)
    print(f"held out after: {after}", flush=True)
    history = [entry for entry in trainer.state.log_history if "reward" in entry]
    write_run(
        staged,
        kind="policy",
        config=config,
        policy=reward.components.safe.info.policy.digest,
        data_digest=inputs["data"],
        seed=config.seed,
        metrics={"before": before, "after": after, "history": history},
        extra={"digests": inputs},
    )
    run_folder.publish(out)
    print(f"{out}: done; {json.dumps({'before': before, 'after': after})}")


def answers(base: Any, tokenizer: Any, rows: Sequence[RewardRow], tokens: int, seed: int) -> list[str]:
    """An answer of the policy to each prompt, rendered as TRL renders what it learns from; the same for the same
    weights."""
    from guard.reward.judging import seed_of

    adapter = "default" if hasattr(base.model, "peft_config") else None
    asked = [
        tuple(tokenizer.apply_chat_template(plain_messages(row.prompt), add_generation_prompt=True, return_dict=False))
        for row in rows
    ]
    seeds = [seed_of(seed, ids) for ids in asked]
    replies = base.sample(asked, 1, tokens, seeds, [tokenizer.eos_token_id], adapter)
    return [tokenizer.decode(reply, skip_special_tokens=True) for (reply,) in replies]


def report(reward: RewardFunction, rows: Sequence[RewardRow], texts: Sequence[str]) -> dict[str, float]:
    """Means over held-out prompts; `refusals` is the share of refusals where refusing is wrong, `undecided` that of
    answers which could not be judged; the components are those of the others."""
    refusable = [row.verdict == "unsafe" for row in rows]
    rewards = reward.score([(row.prompt, text) for row, text in zip(rows, texts, strict=True)], refusable)
    found = {"prompts": float(len(rows)), "length": statistics.fmean(map(len, texts)) if texts else 0.0}
    decided = [each for each in rewards if not each.undecided]
    for name in reward.components.names:
        if known := [value for each in decided if (value := each.components.get(name)) is not None]:
            found[name] = statistics.fmean(known)
            if name == "not_refusal":
                found["refusals"] = statistics.fmean(value < 0 for value in known)
    if rewards:
        found["reward"] = statistics.fmean(each.total for each in rewards)
        found["undecided"] = 1 - len(decided) / len(rewards)
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    run_recipe(main)
