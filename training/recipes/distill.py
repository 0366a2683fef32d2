"""Teach the small encoder what a causal guard says: its probabilities beside the labels of the data.

What it does: the teacher, a finished bundle, scores every training row once, as it is stored; the scores are kept in
the run's folder. Then the encoder learns as in the recipe encoder, from a mixture of two losses: of the labels, and of
the teacher's probabilities of the verdict and of each category at a temperature. Of rows whose categories nobody
labelled the teacher's are all that is known.

Departs from Hinton et al. 2015 (arXiv:1503.02531) in the student's targets: the teacher writes a verdict and codes, so
each category is a question of its own with two answers, and there is no softmax over classes.

Launch:  guard train distill teacher=BUNDLE                 the bundle of a causal guard, made by `guard export`
         python -P training/recipes/distill.py CONFIG.yaml [key=value …]        this file as it stands
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from torch import Tensor

from guard import policy, schema
from guard.bundle import open_bundle
from guard.data.dataset.examples import load_examples, weighed
from guard.engines.registry import open_engine
from guard.errors import ConfigError
from guard.schema import Positive, Share
from guard.train.augment.padding import benign
from guard.train.common.config import FREE, settle
from guard.train.common.identity import digests, made_of, resolved
from guard.train.common.labels import loss_of, refusal_loss
from guard.train.common.loop import Plan, adamw, rising_then_falling, run_loop
from guard.train.common.precision import cpu_autocast
from guard.train.common.run_folder import data_digest, run_recipe, write_run
from guard.train.common.sampling import Visit, batches, one_policy, visits
from guard.train.common.teacher import Taught, teach, teachers_loss
from guard.train.common.teaching import teaching
from guard.train.encoder import model as encoder
from guard.train.encoder.dev_eval import evaluate, held_out
from guard.train.encoder.run import EncoderConfig, begin
from guard.train.encoder.step import in_force, logits_of, paraphrases


@dataclass(frozen=True, kw_only=True)
class Config(EncoderConfig):
    """See training/configs/distill.yaml for what each knob buys."""

    teacher: str
    teacher_weight: Share = 0.5
    temperature: Positive = 2.0


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    settle(config)
    teacher = open_engine(open_bundle(config.teacher), config.threads)
    out, base = Path(config.out), encoder.base_folder(config.base)
    rules = policy.load(config.policy)

    # The data, and what the teacher says of it.
    data = Path(config.data)
    told_by = digests(config, rules, base) | {"teacher": teacher.digest}
    data_name, made = data_digest(data), made_of(config, FREE, told_by)
    train = weighed(load_examples(data, "train", rules, config.columns), config.source_weights)
    teaching(train, rules, config.data)  # both labels
    judged = [e for e in load_examples(data, "dev", rules, config.columns) if e.kind != "text"]
    model, reader = begin(config, rules, made)  # only now: data that cannot be read leaves no half a folder
    dev, pool = held_out(judged, reader, rules), benign(train)
    settings = one_policy(config.augmentation)

    def told(done: int, todo: int) -> None:
        if done == todo or done % 2048 == 0:
            print(f"the teacher has scored {done} of {todo} rows", flush=True)

    said = teach(teacher, train, rules, out / "teacher.sqlite", told)
    unread = sum(score is None for score in said)
    print(f"{len(train)} training rows, of which the teacher could not read {unread}; {len(dev)} dev rows", flush=True)

    @functools.lru_cache(1)
    def epoch_of(number: int) -> list[list[Visit]]:
        made = []
        for example, score in zip(train, said, strict=True):
            for visit in visits([example], reader, rules, settings, config.seed, number, pool):
                # What augmentation made safe, an answer that refuses say, is no longer what the teacher scored.
                same = visit.item.unsafe == (example.label == "unsafe")
                item = Taught.by(visit.item, score) if score and same else visit.item
                made.append(Visit(item, visit.row))
        return list(batches(made, config.batch_tokens, config.batch_rows, random.Random(config.seed * 1000 + number)))

    steps = int(len(epoch_of(0)) * config.epochs)
    optimiser = adamw(model, {"": config.learning_rate, "head.": config.head_learning_rate}, config.weight_decay)
    schedule = rising_then_falling(optimiser, config.warmup_steps, steps)
    autocast = cpu_autocast(config.bf16)

    def loss_at(batch: list[Visit], step: int) -> tuple[Tensor, int]:
        rng = random.Random(f"{config.seed}/{step}")
        chosen, items = in_force(rules.categories, config.partial_policy, rng), [visit.item for visit in batch]
        codes, whole = [category.code for category in chosen], len(chosen) == len(rules.categories)
        logits, refusals = logits_of(model, reader, batch, paraphrases(chosen, rng), autocast)
        hard = loss_of(logits, items, codes, whole, config.category_weight, config.label_smoothing)
        places = [rules.codes.index(code) for code in codes]
        soft = teachers_loss(logits, items, places, whole, config.category_weight, config.temperature)
        loss = (1 - config.teacher_weight) * hard + config.teacher_weight * soft
        return loss + config.refusal_weight * refusal_loss(refusals, items), sum(len(visit.row[0]) for visit in batch)

    # The loop. A checkpoint holds everything: a killed run goes on where it was.
    plan = Plan(out, steps, config.checkpoint_steps, config.seed, json.dumps(made, sort_keys=True))
    stream = itertools.chain.from_iterable(epoch_of(number) for number in itertools.count())
    done = run_loop(
        plan, model, optimiser, schedule, stream, loss_at, lambda: evaluate(model, dev, reader, rules, autocast)
    )
    encoder.save(model, out)
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
            "base": config.base if config.base in ("mini", "minilm") else base.name,
            "teacher": teacher.digest,
            "tokens_per_s": done.tokens_per_s,
        },
    )
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
