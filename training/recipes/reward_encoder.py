"""Train a reward model on a small encoder, by pairs of answers, in minutes on a CPU.

What it does: every step scores the two answers of each pair of a batch behind their prompt, and learns to give the
better one more (Bradley-Terry), by the more the greater a row's margin is; the mean score is kept near zero. A long
answer shows one of its windows at random; its score is the mean over all.

Launch:  guard train reward-mini --data PAIRS.jsonl --out runs/reward-mini
         python -P training/recipes/reward_encoder.py CONFIG.yaml [key=value …]
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from guard import schema
from guard.errors import ConfigError
from guard.prompts.encoder import EncoderInput
from guard.reward import encoder as rewards
from guard.reward import folder as files
from guard.reward.finish import UNMEASURED, measure
from guard.reward.items import margin_unit, pairs_of
from guard.reward.load import held_out, load_rows, require
from guard.reward.open import open_scorer
from guard.reward.row import RewardRow
from guard.reward.systems import system_of
from guard.schema import NotNegative, Positive, Share
from guard.train.common.identity import base_digest, claim, contents, made_of, resolved
from guard.train.common.loop import Plan, adamw, rising_then_falling, run_loop
from guard.train.common.run_folder import run_recipe, write_run
from guard.train.encoder.model import base_folder, padded
from guard.train.encoder.tokenizer import encoder_tokenizer


@dataclass(frozen=True, kw_only=True)
class Config:
    """See training/configs/reward-mini.yaml for the effect of each setting."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    system: str = "bt-encoder"
    base: str
    data: str
    out: str
    split: str = "train"
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    margin: NotNegative = 1.0
    attribute: str | None = None
    epochs: PositiveInt = 3
    batch_pairs: PositiveInt = 16
    max_tokens: Annotated[int, Field(ge=32)] = 256
    learning_rate: Positive = 5e-5
    head_learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    warmup_steps: NonNegativeInt = 50
    dropout: Share = 0.1
    centring: NotNegative = 0.01
    checkpoint_steps: PositiveInt = 200
    seed: int = 7
    threads: PositiveInt | None = None


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    system = system_of(config.system, "reward_encoder")
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)

    # The rows.
    data, out, base = Path(config.data), Path(config.out), base_folder(config.base)
    train, apart = held_out(pairs_of(load_rows(data, config.split), config.attribute), config.held_out, config.seed)
    require(train[:1], system.stages[0].needs, system.name)
    inputs = {"data": contents(data), "base": base_digest(base)}
    identity = made_of(config, ("out", "base", "data", "threads", "checkpoint_steps"), inputs)
    claim(out, identity)
    if (out / "run.json").exists():
        print(f"{out}: is finished already; next: guard reward eval {out} ROWS")
        return

    # The model.
    encoder_tokenizer(base / "tokenizer.json", out / files.TOKENIZER)
    model = rewards.from_pretrained(base, config.dropout)
    if config.max_tokens > (most := model.body.config.max_position_embeddings):
        raise ConfigError(f"max_tokens must be <= {most} for {config.base} (got {config.max_tokens})")
    model.body.embeddings.word_embeddings.requires_grad_(False)
    reader = rewards.EncoderReader(model, EncoderInput.load(out / files.TOKENIZER, config.max_tokens, rewards.OVERLAP))

    # The steps.
    unit = margin_unit(train, config.margin)

    def epoch(number: int) -> list[list[RewardRow]]:
        rng = random.Random(f"{config.seed}/{number}")
        order = rng.choices(train, weights=[row.weight for row in train], k=len(train))
        if len({row.weight for row in train}) == 1:
            order = rng.sample(train, len(train))
        return [order[at : at + config.batch_pairs] for at in range(0, len(order), config.batch_pairs)]

    def stream() -> Iterator[list[RewardRow]]:
        return itertools.chain.from_iterable(epoch(number) for number in itertools.count())

    def loss_at(batch: list[RewardRow], step: int) -> tuple[Tensor, int]:
        rng = random.Random(f"{config.seed}/{step}")
        texts = [
            (row.prompt, answer or "")
            for side in ("chosen", "rejected")
            for row in batch
            for answer in [getattr(row, side)]
        ]
        windows = [rng.choice(reader.windows(text)[0]) for text in texts]
        scores = model(**padded([(window.ids, window.segments) for window in windows], reader.reader.pad))
        chosen, rejected = scores.chunk(2)
        margin = unit * torch.tensor([row.margin or 0.0 for row in batch])
        loss = -nn.functional.logsigmoid(chosen - rejected - margin).mean()
        return loss + config.centring * (chosen + rejected).square().mean(), sum(len(window.ids) for window in windows)

    def judge() -> dict[str, float | None]:
        model.eval()
        chosen, rejected = (
            reader.singles([(row.prompt, getattr(row, side) or "") for row in apart]) for side in ("chosen", "rejected")
        )
        right = sum(a.z > b.z for a, b in zip(chosen, rejected, strict=True))
        return {"accuracy": right / len(apart) if apart else None}

    steps = config.epochs * len(epoch(0))
    optimiser = adamw(model, {"": config.head_learning_rate, "body.": config.learning_rate}, config.weight_decay)
    schedule = rising_then_falling(optimiser, config.warmup_steps, steps)
    plan = Plan(out, steps, config.checkpoint_steps, config.seed, json.dumps(identity, sort_keys=True))
    print(
        f"{system.name}: {len(train)} pairs to learn from, {len(apart)} held out by prompt; {steps} steps", flush=True
    )
    finished = run_loop(plan, model, optimiser, schedule, stream(), loss_at, judge)

    # The run.
    rewards.save(model, out)
    described = files.Described(system.name, "", files.parts_of(out, None), config.max_tokens)
    files.write_described(out, described)
    files.write_learnt(out, train)
    measured, calibration, anchors = measure(open_scorer(out, check=False), apart, train)
    files.write_calibration(out, calibration, anchors)
    print(f"held out: {measured or UNMEASURED}")
    write_run(
        out,
        kind="reward",
        config=config,
        policy="",
        data_digest=inputs["data"],
        seed=config.seed,
        metrics={"held_out": measured, "history": finished.history},
        extra={"digests": inputs, "fingerprint": described.fingerprint, "system": system.name},
    )
    print(f"{out}: done; next: guard reward eval {out} ROWS")


if __name__ == "__main__":
    run_recipe(main)
