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

import functools
import itertools
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from torch import Tensor

from guard import policy, schema
from guard.data.dataset.examples import load_examples, weighed
from guard.errors import ConfigError
from guard.policy import Policy
from guard.policy.route import between
from guard.train.augment.padding import benign
from guard.train.common.config import FREE, settle
from guard.train.common.identity import digests, made_of, resolved
from guard.train.common.labels import loss_of, refusal_loss, relabelled
from guard.train.common.loop import Plan, adamw, rising_then_falling, run_loop
from guard.train.common.precision import cpu_autocast
from guard.train.common.replay import Replay, drawn, replayed
from guard.train.common.run_folder import data_digest, run_recipe, write_run
from guard.train.common.sampling import Visit, batches, one_policy, visits
from guard.train.common.teaching import teaching
from guard.train.encoder import model as encoder
from guard.train.encoder.dev_eval import evaluate, held_out
from guard.train.encoder.run import EncoderConfig, begin
from guard.train.encoder.step import in_force, logits_of, paraphrases

AVERAGED = (*FREE, "average_with_base")  # what a resumed run may change


@dataclass(frozen=True, kw_only=True)
class Config(EncoderConfig):
    """See training/configs/encoder.yaml for what each knob buys."""

    other_policies: tuple[str, ...] = ()
    other_policy: float = 0.0
    average_with_base: float = 0.0
    replay: Replay = field(default_factory=Replay)


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    settle(config)
    out, base = Path(config.out), encoder.base_folder(config.base)
    rules = policy.load(config.policy)

    # The data.
    data = Path(config.data)
    told_by = digests(config, rules, base)
    data_name, made = data_digest(data), made_of(config, AVERAGED, told_by)
    train = weighed(load_examples(data, "train", rules, config.columns), config.source_weights)
    teaching(train, rules, config.data)  # both labels
    pool = benign(train)
    again, replays = replayed(config.replay)
    replays = weighed(replays, config.source_weights)
    replay_pool, replay_count = benign(replays), config.replay.rows(len(train))
    judged = [e for e in load_examples(data, "dev", rules, config.columns) if e.kind != "text"]
    model, reader = begin(config, rules, made)  # only now: data that cannot be read leaves no half a folder
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

    optimiser = adamw(model, {"": config.learning_rate, "head.": config.head_learning_rate}, config.weight_decay)
    schedule = rising_then_falling(optimiser, config.warmup_steps, steps)
    autocast = cpu_autocast(config.bf16)

    def loss_at(given: tuple[Policy, list[Visit]], step: int) -> tuple[Tensor, int]:
        rng = random.Random(f"{config.seed}/{step}")
        under, batch = given
        items, categories = [visit.item for visit in batch], under.categories
        if others and under is rules and rng.random() < config.other_policy:
            route, as_other = rng.choice(others)
            items = [as_other(item) for item in items]
            categories = tuple(c for c in route.policy.categories if c.code not in route.crosswalk.beyond)
        chosen = in_force(categories, config.partial_policy, rng)
        whole, codes = len(chosen) == len(categories), [category.code for category in chosen]
        logits, refusals = logits_of(model, reader, batch, paraphrases(chosen, rng), autocast)
        loss = loss_of(logits, items, codes, whole, config.category_weight, config.label_smoothing)
        return loss + config.refusal_weight * refusal_loss(refusals, items), sum(len(visit.row[0]) for visit in batch)

    def judge() -> dict[str, float | None]:
        return evaluate(model, dev, reader, rules, autocast)

    # The loop. A checkpoint holds everything: a killed run goes on where it was.
    plan = Plan(out, steps, config.checkpoint_steps, config.seed, json.dumps(made, sort_keys=True))
    stream = itertools.chain.from_iterable(epoch_of(number) for number in itertools.count())
    done = run_loop(plan, model, optimiser, schedule, stream, loss_at, judge)

    # Half-way to where they began, weights often generalise better than at either end (arXiv:2109.01903).
    if config.average_with_base:
        share, begun = config.average_with_base, encoder.load(base).state_dict()
        model.load_state_dict(
            {name: share * begun[name] + (1 - share) * end for name, end in model.state_dict().items()}
        )
        done.history.append({"averaged_with_base": share, **judge()})
        print(json.dumps(done.history[-1]), flush=True)
    encoder.save(model, out)
    stage = base / "run.json"  # of a stage before this one, which knows what all began with
    origin = json.loads(stage.read_text(encoding="utf-8"))["base"] if stage.exists() else config.base
    write_run(
        out,
        kind="mini",
        config=config,
        policy=rules.digest,
        data_digest=data_name,
        seed=config.seed,
        metrics={"history": done.history},
        extra={
            "digests": told_by,
            "base": origin if origin in ("mini", "minilm") else base.name,
            "tokens_per_s": done.tokens_per_s,
            "replay": {"policy": again.digest, "rows": len(replays), "an_epoch": replay_count} if replays else None,
        },
    )
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
