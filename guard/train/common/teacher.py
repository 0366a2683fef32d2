"""What a finished guard says of training rows, for another to learn from: kept on disk, so that no row is scored twice.

A score is kept by what was scored, under which policy, and by whom: a changed row, policy or teacher is scored anew,
and what a killed run had scored is found again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guard.conversation import Conversation, Example
from guard.engines.base import Engine
from guard.errors import DataError, InvalidInput
from guard.moderator.evidence import evidence
from guard.moderator.steps import run, together
from guard.policy import Policy
from guard.prompts.window import Score
from guard.train.common.labels import Item

CHUNK = 128  # rows that are scored and kept together
_FORMAT = 1
_RULE = 2  # raise it when the same windows or views count otherwise, so that what was stored before is scored anew
_TABLE = "CREATE TABLE IF NOT EXISTS scores (row TEXT PRIMARY KEY, log_odds TEXT NOT NULL) WITHOUT ROWID"

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


def row_key(teacher: str, policy: Policy, conversation: Conversation) -> str:
    """What a score is kept by. `teacher`: the digest of its bundle."""
    messages = [[message.role, message.content] for message in conversation.messages]
    return hashlib.sha256(json.dumps([_RULE, teacher, policy.digest, messages]).encode()).hexdigest()


def teach(
    engine: Engine, examples: Sequence[Example], policy: Policy, store: Path, progress: Progress = lambda *_: None
) -> list[Score | None]:
    """The score of each example, as for a verdict, as it is stored; None where the teacher cannot tokenize it.

    DataError if `store` cannot be used; what the engine raises, after what was scored before is kept.
    """
    keys = [row_key(engine.info.digest, policy, example.conversation) for example in examples]
    with _opened(store) as file:
        held = {key for key in set(keys) if file.execute("SELECT 1 FROM scores WHERE row = ?", (key,)).fetchone()}
        todo = list({key: at for at, key in enumerate(keys) if key not in held}.items())
        for start in range(0, len(todo), CHUNK):
            part = todo[start : start + CHUNK]
            scored = _scores(engine, [examples[at] for _, at in part], policy)
            with file:  # all of the chunk or nothing
                told = [(key, json.dumps(odds)) for (key, _), odds in zip(part, scored, strict=True)]
                file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", told)
            progress(min(start + CHUNK, len(todo)), len(todo))
        kept = (file.execute("SELECT log_odds FROM scores WHERE row = ?", (key,)).fetchone() for key in keys)
        odds = [json.loads(text) for (text,) in kept]
    return [Score(row[0], tuple(row[1:])) if row else None for row in odds]


def _scores(engine: Engine, examples: Sequence[Example], policy: Policy) -> list[list[float]]:
    """[verdict, each category …] of each example, [] where it cannot be tokenized. Raises what else goes wrong."""
    odds: list[list[float]] = []
    for one in run(together([evidence(engine, example.conversation, policy) for example in examples]), engine):
        if isinstance(one, InvalidInput):
            odds.append([])  # told by the caller, who counts the rows without a score
        elif isinstance(one, Exception):
            raise one
        else:
            odds.append([one.score.unsafe, *one.score.categories])
    return odds


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(store)) as file:
            (found,) = file.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise DataError(f"{store}: holds scores in format {found}, not {_FORMAT}; remove it")
            file.execute(_TABLE)
            file.execute(f"PRAGMA user_version = {_FORMAT}")
            yield file
    except sqlite3.Error as problem:
        kind = getattr(problem, "sqlite_errorname", type(problem).__name__)
        raise DataError(f"{store}: cannot be used as a file of scores ({kind}); remove it or name another") from None


def teachers_loss(
    logits: Tensor, items: Sequence[Item], kept: Sequence[int], whole: bool, category_weight: float, temperature: float
) -> Tensor:
    """Cross-entropy with the teacher's probabilities at a temperature, by weight: of the OR over the policy, and of
    each category; 0 without taught items. `kept`: places in the whole policy of the logits' categories.

    The verdict is learnt under the whole policy alone, of which the teacher spoke. Scaled by the temperature's square,
    so that it weighs the same at all temperatures. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    rows = [(row, item) for row, item in enumerate(items) if isinstance(item, Taught)]
    if not rows:
        return logits.sum() * 0.0
    said = logits[[row for row, _ in rows]].float()
    weight = torch.tensor([item.weight for _, item in rows])
    scale = temperature**2 / weight.sum().clamp(min=1.0)
    verdict = torch.tensor([item.verdict for _, item in rows])
    each = torch.tensor([[item.each[place] for place in kept] for _, item in rows])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    loss = (
        category_weight
        * (bce(said / temperature, torch.sigmoid(each / temperature), reduction="none") * weight[:, None]).sum()
    )
    if whole:
        either = torch.logsumexp(said, 1) / temperature
        loss = loss + (bce(either, torch.sigmoid(verdict / temperature), reduction="none") * weight).sum()
    return loss * scale
