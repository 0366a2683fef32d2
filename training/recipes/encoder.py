"""Fine-tune a small encoder into a policy-conditioned guard.

What it does: every step encodes a batch of texts and the words of the policy's categories with the same encoder, and
learns p(unsafe) as an OR over the categories in force. On a share of the steps a random part of the policy is in force
and labels follow it, so that the guard obeys the policy it is given. Category words are paraphrased by dropping parts.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping it borrows, in reading the policy
as vectors instead of a prompt: a request may bring its own categories at no cost.

Launch:  guard train encoder                       the default guard, about an hour on two cores
         guard train encoder-custom --policy my.yaml --data DIR --base mini     your policy, from the shipped guard
         python training/recipes/encoder.py CONFIG.yaml [key=value …]           this file as it stands
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from torch import Tensor

from guard import policy, schema
from guard.conversation import Example
from guard.data.augment.augmentation import Augmentation
from guard.data.augment.padding import benign
from guard.data.examples import load_examples
from guard.data.route import between
from guard.encoder_input import EncoderInput, category_text
from guard.errors import ConfigError
from guard.policy import Category, Policy
from guard.train import encoder
from guard.train.conditioned import loss_of, refusal_loss, relabelled
from guard.train.held_out import category_rows, evaluate, held_out
from guard.train.replay import Replay, drawn, replayed
from guard.train.run import data_digest, run_recipe, write_run
from guard.train.tokenizer import encoder_tokenizer
from guard.train.visits import Visit, batches, one_policy, visits

FREE = ("out", "threads", "checkpoint_steps", "average_with_base")  # what a resumed run may change


@dataclass(frozen=True)
class Config:
    """See training/configs/encoder.yaml for what each knob buys."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    base: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # how rows of your own are to be read, see docs/data.md
    epochs: float = 2.0
    batch_tokens: int = 4096
    batch_rows: int = 64
    max_tokens: int = 192
    overlap: int = 48
    learning_rate: float = 1.2e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    dropout: float = 0.1
    freeze_embeddings: bool = True
    category_weight: float = 0.2
    refusal_weight: float = 0.1
    partial_policy: float = 0.4
    label_smoothing: float = 0.02
    checkpoint_steps: int = 500
    seed: int = 7
    bf16: bool = True
    threads: int | None = None
    source_weights: Mapping[str, float] = field(default_factory=dict)
    other_policies: tuple[str, ...] = ()
    other_policy: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    average_with_base: float = 0.0
    replay: Replay = field(default_factory=Replay)


def paraphrases(categories: Sequence[Category], rng: random.Random) -> list[str]:
    """The categories by name alone, by definition, or in full: users write all three."""
    draw = rng.random()
    if draw < 0.2:
        return [category.name for category in categories]
    if draw < 0.8:
        return [f"{category.name}: {category.definition}" for category in categories]
    return [category_text(category) for category in categories]


def weighed(examples: Iterable[Example], by_source: Mapping[str, float]) -> list[Example]:
    """The examples with the weight of their source, less those of weight 0."""
    return [
        dataclasses.replace(example, weight=weight)
        for example in examples
        if (weight := example.weight * by_source.get(example.source, 1.0))
    ]


def main(path: str, overrides: list[str]) -> None:
    config = schema.load(Path(path), Config, ConfigError, overrides)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)

    # The model and its one renderer.
    rules = policy.load(config.policy)
    base = encoder.base_folder(config.base)
    trained = any((base / name).exists() for name in ("guard.json", "run.json"))
    model = encoder.load(base) if trained else encoder.from_pretrained(base)
    model.dropout.p = config.dropout
    encoder_tokenizer(base / "tokenizer.json", out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    reader = EncoderInput.load(out / "tokenizer.json", config.max_tokens, config.overlap)

    # The data.
    data = Path(config.data)
    train = weighed(load_examples(data, "train", rules, config.columns), config.source_weights)
    pool = benign(train)
    again, replays = replayed(config.replay)
    replays = weighed(replays, config.source_weights)
    replay_pool, replay_count = benign(replays), config.replay.rows(len(train))
    judged = [e for e in load_examples(data, "dev", rules, config.columns) if e.kind != "text"]
    dev = held_out(judged, reader, rules)
    settings = one_policy(config.augmentation)

    @functools.lru_cache(1)
    def epoch_of(number: int) -> list[tuple[Policy, list[Visit]]]:
        """The epoch's batches, each with the policy that its rows are labelled by."""
        rng = random.Random(config.seed * 1000 + number)
        made = visits(train, reader, rules, settings, config.seed, number, pool)
        cut = [(rules, batch) for batch in batches(made, config.batch_tokens, config.batch_rows, rng)]
        if not replays:
            return cut
        shown = drawn(replays, replay_count, config.seed, number)
        made = visits(shown, reader, again, settings, config.seed, number, replay_pool)
        cut += [(again, batch) for batch in batches(made, config.batch_tokens, config.batch_rows, rng)]
        rng.shuffle(cut)
        return cut

    first = epoch_of(0)
    tokens = sum(len(visit.row[0]) for _, batch in first for visit in batch)
    steps = int(len(first) * config.epochs)
    shown = f"{sum(len(batch) for _, batch in first)} training rows" + f" ({replay_count} replayed)" * bool(replays)
    print(f"{shown}, {tokens} tokens; {len(dev)} dev rows; {steps} steps", flush=True)
    routes = [between(rules, policy.load(name)) for name in config.other_policies]
    others = [(route, functools.cache(functools.partial(relabelled, route.crosswalk))) for route in routes]

    # The optimiser: words keep their pre-trained vectors, so that words unseen here stay where they were.
    if config.freeze_embeddings:
        model.encoder.embeddings.word_embeddings.requires_grad_(False)
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("head."), parameter.ndim > 1), []).append(parameter)
    optimiser = torch.optim.AdamW(
        [
            {
                "params": params,
                "lr": config.head_learning_rate if head else config.learning_rate,
                "weight_decay": config.weight_decay if matrix else 0.0,
            }
            for (head, matrix), params in groups.items()
        ],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda done: min((done + 1) / config.warmup_steps, (steps - done) / max(1, steps - config.warmup_steps)),
    )
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.bf16)

    # The loop. A checkpoint holds everything: a killed run goes on where it was.
    step, history, started, seen, losses = 0, [], time.time(), 0, []
    checkpoint = out / "checkpoint.pt"
    fixed = json.dumps(
        {k: v for k, v in dataclasses.asdict(config).items() if k not in FREE}, sort_keys=True, default=sorted
    )
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["config"] != fixed:
            raise ConfigError(
                f"{checkpoint}: is of another configuration; remove it, or give another folder with --out"
            )
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        step, history = state["step"], state["history"]
        print(f"resuming at step {step}", flush=True)
        history[-1] |= evaluate(model, dev, reader, rules, autocast)  # it was saved before this
    model.train()
    stream = itertools.chain.from_iterable(epoch_of(number) for number in itertools.count())
    for under, batch in itertools.islice(stream, step, steps):
        rng = random.Random(f"{config.seed}/{step}")
        torch.manual_seed(config.seed * 1_000_003 + step)
        items, chosen = [visit.item for visit in batch], list(under.categories)
        if others and under is rules and rng.random() < config.other_policy:
            route, as_other = rng.choice(others)
            items = [as_other(item) for item in items]
            chosen = [c for c in route.policy.categories if c.code not in route.crosswalk.beyond]
        total = len(chosen)
        if total > 1 and rng.random() < config.partial_policy:
            chosen = sorted(rng.sample(chosen, rng.randint(max(1, total // 3), total - 1)), key=chosen.index)
        text = encoder.padded([visit.row for visit in batch], reader.pad)
        with autocast:
            vectors = model.embed(**encoder.padded(category_rows(reader, paraphrases(chosen, rng)), reader.pad))
            means, states = model.read(**text)
        logits = model.head(model.dropout(means), states, text["attention_mask"], model.dropout(vectors))
        whole, codes = len(chosen) == total, [category.code for category in chosen]
        loss = loss_of(logits, items, codes, whole, config.category_weight, config.label_smoothing)
        loss = loss + config.refusal_weight * refusal_loss(model.refusal(means).squeeze(-1), items)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        step += 1
        seen += int(text["attention_mask"].sum())
        losses.append(loss.item())
        if step % 50 == 0:
            rate = seen / (time.time() - started)
            print(f"step {step}/{steps} loss {np.mean(losses[-50:]):.4f} {rate:.0f} tokens/s", flush=True)
        if step % config.checkpoint_steps == 0 or step == steps:
            history.append({"step": step, "loss": float(np.mean(losses[-200:]))})
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            state |= {"config": fixed, "schedule": schedule.state_dict(), "history": history}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            history[-1] |= evaluate(model, dev, reader, rules, autocast)
            print(json.dumps(history[-1]), flush=True)

    # Half-way to where they began, weights often generalise better than at either end (arXiv:2109.01903).
    if config.average_with_base:
        share, begun = config.average_with_base, encoder.load(base).state_dict()
        model.load_state_dict(
            {name: share * begun[name] + (1 - share) * end for name, end in model.state_dict().items()}
        )
        history.append({"averaged_with_base": share, **evaluate(model, dev, reader, rules, autocast)})
        print(json.dumps(history[-1]), flush=True)
    encoder.save(model, out)
    speed = round(seen / (time.time() - started)) if seen else None  # a run that was resumed at its end took no step
    stage = base / "run.json"  # of a stage before this one, which knows what all began with
    origin = json.loads(stage.read_text(encoding="utf-8"))["base"] if stage.exists() else config.base
    write_run(
        out,
        kind="mini",
        config=config,
        policy=rules.digest,
        data_digest=data_digest(data),
        seed=config.seed,
        metrics={"history": history},
        extra={
            "base": origin if origin in ("mini", "minilm") else base.name,
            "tokens_per_s": speed,
            "replay": {"policy": again.digest, "rows": len(replays), "an_epoch": replay_count} if replays else None,
        },
    )
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
