"""Fine-tune a small encoder into a policy-conditioned guard.

What it does: every step encodes a batch of texts and the words of the policy's categories with the same encoder, and
learns p(unsafe) as an OR over the categories in force. On a share of the steps a random part of the policy is in force
and labels follow it, so that the guard obeys the policy it is given. Category words are paraphrased by dropping parts.
Other steps take rows that are judged by rules of their own (`rules-train.parquet`), for policies it has never seen.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping it borrows, in reading the policy
as vectors instead of a prompt: a request may bring its own categories at no cost.

Launch:  guard train encoder                       the default guard, about an hour on two cores
         guard train encoder-custom --policy my.yaml --data DIR --base mini     your policy, from the shipped guard
         python training/recipes/encoder.py CONFIG.yaml [key=value …]           this file as it stands
"""

from __future__ import annotations

import functools
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pydantic import Field
from torch import Tensor

from guard import policy, schema
from guard.data.dataset.examples import load_rules, weighed
from guard.errors import ConfigError
from guard.policy import Policy
from guard.policy.route import between
from guard.train.augment.padding import benign
from guard.train.common.config import RESUMABLE, settle
from guard.train.common.identity import digests, resolved
from guard.train.common.labels import relabelled
from guard.train.common.loss import loss_of, refusal_loss
from guard.train.common.replay import Replay, drawn, replayed
from guard.train.common.run_folder import run_recipe
from guard.train.common.sampling import Sample, samples
from guard.train.encoder import model as encoder
from guard.train.encoder.rules import RuleRow, RuleSample, rule_loss, rule_samples, rule_texts
from guard.train.encoder.run import EncoderConfig, begin, finish, fit
from guard.train.encoder.step import in_force, logits_of, paraphrases


@dataclass(frozen=True, kw_only=True)
class Config(EncoderConfig):
    """See training/configs/encoder.yaml for what each knob buys."""

    other_policies: tuple[str, ...] = ()
    other_policy: float = 0.0
    rules: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    average_with_base: float = 0.0
    replay: Replay = field(default_factory=Replay)


Batch = tuple[Policy, list[Sample]] | tuple[None, list[RuleSample]]


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    settle(config)
    rules = policy.load(config.policy)

    # The data.
    inputs = digests(config, rules, encoder.base_folder(config.base))
    ruled = _rules(config)
    replay_rules, replays = replayed(config.replay)
    replays = weighed(replays, config.source_weights)
    run = begin(config, rules, inputs, (*RESUMABLE, "average_with_base"))
    settings, pool, replay_pool = config.augmentation, benign(run.train), benign(replays)
    replay_rows = config.replay.rows(len(run.train))
    rule_rows = round(len(run.train) * config.rules / (1 - config.rules))

    @functools.lru_cache(1)
    def epoch(number: int) -> list[Batch]:
        """The epoch's batches: rows of one policy with that policy, or rows of which each brings its own."""
        rng = random.Random(config.seed * 1000 + number)
        own = samples(run.train, run.reader, rules, settings, config.seed, number, pool)
        cut: list[Batch] = [(rules, batch) for batch in run.batches(own, rng)]
        if replays:
            shown = drawn(replays, replay_rows, config.seed, number)
            others = samples(shown, run.reader, replay_rules, settings, config.seed, number, replay_pool)
            cut += [(replay_rules, batch) for batch in run.batches(others, rng)]
        if ruled:
            judged = rule_samples(ruled, rule_rows, run.reader, settings, config.seed, number, pool)
            cut += [(None, batch) for batch in run.batches(judged, rng)]
        if replays or ruled:
            rng.shuffle(cut)
        return cut

    rows, tokens = sum(len(batch) for _, batch in epoch(0)), sum(len(s.row[0]) for _, batch in epoch(0) for s in batch)
    shown = f"{rows} training rows" + f" ({replay_rows} replayed)" * bool(replays)
    shown += f" ({rule_rows} judged by rules of their own)" * bool(ruled)
    steps = int(len(epoch(0)) * config.epochs)
    print(f"{shown}, {tokens} tokens; {len(run.dev)} dev rows; {steps} steps", flush=True)

    # The loss, under the policy of the rows or, on a share of the steps, under another one that labels are known for.
    routes = [between(rules, policy.load(name)) for name in config.other_policies]
    others = [(route, functools.cache(functools.partial(relabelled, route.crosswalk))) for route in routes]

    def loss_at(given: Batch, step: int) -> tuple[Tensor, int]:
        rng = random.Random(f"{config.seed}/{step}")
        if given[0] is None:
            texts = rule_texts(given[1])
            logits, _ = logits_of(run.model, run.reader, given[1], texts, run.autocast)
            loss = rule_loss(logits, given[1], texts, config.category_weight, config.label_smoothing)
            return loss, sum(len(s.row[0]) for s in given[1])
        under, batch = given
        items, categories = [sample.item for sample in batch], under.categories
        if others and under is rules and rng.random() < config.other_policy:
            route, as_other = rng.choice(others)
            items = [as_other(item) for item in items]
            categories = tuple(c for c in route.policy.categories if c.code not in route.crosswalk.beyond)
        chosen = in_force(categories, config.partial_policy, rng)
        whole, codes = len(chosen) == len(categories), [category.code for category in chosen]
        logits, refusals = logits_of(run.model, run.reader, batch, paraphrases(chosen, rng), run.autocast)
        loss = loss_of(logits, items, codes, whole, config.category_weight, config.label_smoothing)
        return loss + config.refusal_weight * refusal_loss(refusals, items), sum(len(s.row[0]) for s in batch)

    finished = fit(run, epoch, loss_at)

    # Half-way to where they began, weights often generalise better than at either end (arXiv:2109.01903).
    if config.average_with_base:
        share, begun = config.average_with_base, encoder.load(run.base).state_dict()
        run.model.load_state_dict(
            {name: share * begun[name] + (1 - share) * end for name, end in run.model.state_dict().items()}
        )
        finished.history.append({"averaged_with_base": share, **run.dev_metrics()})
        print(json.dumps(finished.history[-1]), flush=True)
    replayed_rows = {"policy": replay_rules.digest, "rows": len(replays), "an_epoch": replay_rows}
    finish(run, finished, replay=replayed_rows if replays else None)


def _rules(config: Config) -> list[RuleRow]:
    """The rows of rules to train on; ConfigError if they are asked for and the data have none."""
    if not config.rules:
        return []
    given = load_rules(Path(config.data), "train")
    found = [(one, rule) for example, rule in given for one in weighed([example], config.source_weights)]
    if not found:
        raise ConfigError(f"rules is {config.rules:g}, but {config.data} has no rows of rules (rules-train.parquet)")
    return found


if __name__ == "__main__":
    run_recipe(main)
