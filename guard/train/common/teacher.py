"""Teacher scores for distillation: a finished guard's scores of training rows, cached on disk.

The key of a score is its row, policy and teacher: a changed row, policy or teacher is scored anew, and the scores of a
killed run are reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guard.conversation import Conversation, Example
from guard.engines.base import Engine
from guard.errors import InvalidInput
from guard.jobs.cache import Cache
from guard.moderator.evidence import evidence
from guard.moderator.steps import run, together
from guard.policy import Policy
from guard.prompts.window import Score
from guard.train.common.labels import Item

CHUNK = 128  # rows that are scored and stored together

Progress = Callable[[int, int], None]  # rows done, rows to do


@dataclass(frozen=True, slots=True)
class Taught(Item):
    """An item with a teacher's log-odds, of the verdict and of each category of the whole policy."""

    verdict: float = 0.0
    each: tuple[float, ...] = ()

    @classmethod
    def by(cls, item: Item, score: Score) -> Taught:
        known = (item.unsafe, item.categories, item.weight, item.undecided, item.refusal)
        return cls(*known, score.unsafe, score.categories)


def cache_key(teacher: str, policy: Policy, conversation: Conversation) -> str:
    """The key of a score in the cache. `teacher`: the digest of its bundle."""
    messages = [[message.role, message.content] for message in conversation.messages]
    return "score/2:" + hashlib.sha256(json.dumps([teacher, policy.digest, messages]).encode()).hexdigest()


def teach(
    engine: Engine, examples: Sequence[Example], policy: Policy, path: Path, progress: Progress = lambda *_: None
) -> list[Score | None]:
    """The score of each example, as for a verdict; None where the teacher cannot tokenize it.

    DataError if the cache at `path` cannot be used. An engine's error is raised after earlier scores are stored.
    """
    keys = [cache_key(engine.info.digest, policy, example.conversation) for example in examples]
    with Cache(path) as cache:
        log_odds = cache.get_many(keys)
        missing = list(
            {key: example for key, example in zip(keys, examples, strict=True) if key not in log_odds}.items()
        )
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            scored = _scores(engine, [example for _, example in chunk], policy)
            new = {key: odds for (key, _), odds in zip(chunk, scored, strict=True)}
            cache.put_many(new)
            log_odds |= new
            progress(min(start + CHUNK, len(missing)), len(missing))
    return [Score(odds[0], tuple(odds[1:])) if (odds := log_odds[key]) else None for key in keys]


def _scores(engine: Engine, examples: Sequence[Example], policy: Policy) -> list[list[float]]:
    """[verdict, each category …] of each example, [] where it cannot be tokenized. Raises any other error."""
    odds: list[list[float]] = []
    for result in run(together([evidence(engine, example.conversation, policy) for example in examples]), engine):
        if isinstance(result, InvalidInput):
            odds.append([])  # reported by the caller, which counts the rows without a score
        elif isinstance(result, Exception):
            raise result
        else:
            odds.append([result.score.unsafe, *result.score.categories])
    return odds


def teachers_loss(
    logits: Tensor, items: Sequence[Item], kept: Sequence[int], whole: bool, category_weight: float, temperature: float
) -> Tensor:
    """Cross-entropy with the teacher's probabilities at a temperature, by weight: of the OR over the policy, and of
    each category; 0 without taught items. `kept`: places in the whole policy of the logits' categories.

    The verdict is learnt only under the whole policy, under which the teacher scored. Scaled by the temperature's
    square, so that its weight is the same at all temperatures. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    rows = [(row, item) for row, item in enumerate(items) if isinstance(item, Taught)]
    if not rows:
        return logits.sum() * 0.0
    student = logits[[row for row, _ in rows]].float()
    weight = torch.tensor([item.weight for _, item in rows])
    scale = temperature**2 / weight.sum().clamp(min=1.0)
    verdict = torch.tensor([item.verdict for _, item in rows])
    each = torch.tensor([[item.each[place] for place in kept] for _, item in rows])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    loss = (
        category_weight
        * (bce(student / temperature, torch.sigmoid(each / temperature), reduction="none") * weight[:, None]).sum()
    )
    if whole:
        either = torch.logsumexp(student, 1) / temperature
        loss = loss + (bce(either, torch.sigmoid(verdict / temperature), reduction="none") * weight).sum()
    return loss * scale
