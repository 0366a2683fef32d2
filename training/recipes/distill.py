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
import os
import random
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from torch import Tensor

from guard import policy, schema
from guard.bundle import open_bundle
from guard.engines.registry import open_engine
from guard.errors import ConfigError
from guard.schema import Positive, Share
from guard.train.augment.padding import benign
from guard.train.common.config import RESUMABLE, settle
from guard.train.common.identity import digests, resolved
from guard.train.common.loss import loss_of, refusal_loss
from guard.train.common.run_folder import run_recipe
from guard.train.common.sampling import Sample, samples
from guard.train.common.teacher import Taught, teach, teachers_loss
from guard.train.encoder import model as encoder
from guard.train.encoder.run import EncoderConfig, begin, finish, fit
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
    rules = policy.load(config.policy)

    # The data, and what the teacher says of it.
    inputs = digests(config, rules, encoder.base_folder(config.base)) | {"teacher": teacher.info.digest}
    run = begin(config, rules, inputs, RESUMABLE)
    settings, pool = config.augmentation, benign(run.train)

    def progress(done: int, total: int) -> None:
        if done == total or done % 2048 == 0:
            print(f"the teacher has scored {done} of {total} rows", flush=True)

    scores = teach(teacher, run.train, rules, run.out / "teacher.sqlite", progress)
    unread = sum(score is None for score in scores)
    counts = f"{len(run.train)} training rows, of which the teacher could not read {unread}"
    print(f"{counts}; {len(run.dev)} dev rows", flush=True)

    @functools.lru_cache(1)
    def epoch(number: int) -> list[list[Sample]]:
        made = []
        for example, score in zip(run.train, scores, strict=True):
            for sample in samples([example], run.reader, rules, settings, config.seed, number, pool):
                # What augmentation made safe, an answer that refuses say, is no longer what the teacher scored.
                same = sample.item.unsafe == (example.label == "unsafe")
                made.append(Sample(Taught.by(sample.item, score) if score and same else sample.item, sample.row))
        return list(run.batches(made, random.Random(config.seed * 1000 + number)))

    def loss_at(batch: list[Sample], step: int) -> tuple[Tensor, int]:
        rng = random.Random(f"{config.seed}/{step}")
        chosen, items = in_force(rules.categories, config.partial_policy, rng), [sample.item for sample in batch]
        codes, whole = [category.code for category in chosen], len(chosen) == len(rules.categories)
        logits, refusals = logits_of(run.model, run.reader, batch, paraphrases(chosen, rng), run.autocast)
        hard = loss_of(logits, items, codes, whole, config.category_weight, config.label_smoothing)
        places = [rules.codes.index(code) for code in codes]
        soft = teachers_loss(logits, items, places, whole, config.category_weight, config.temperature)
        loss = (1 - config.teacher_weight) * hard + config.teacher_weight * soft
        return loss + config.refusal_weight * refusal_loss(refusals, items), sum(len(s.row[0]) for s in batch)

    finish(run, fit(run, epoch, loss_at), teacher=teacher.info.digest)


if __name__ == "__main__":
    run_recipe(main)
