"""Replay: rows of the base's policy among a user's own, so that a guard learns a new policy without forgetting the old.

A row is labelled under one policy, and its label does not carry over to another. So each epoch draws replay rows beside
the user's, and each step of the recipe takes a batch of the one or of the other, under the policy that it was labelled
by. Source: experience replay (Rolnick et al. 2019, arXiv:1811.11682).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field

from guard import policy, schema
from guard.conversation import Example, Label
from guard.data.dataset.examples import load_examples
from guard.data.ingest import source_rows
from guard.data.ingest.user_rows import conversation_of
from guard.data.row import Row
from guard.data.sources import description
from guard.errors import ConfigError
from guard.policy import Policy

SEEDS = ("seed_prompts", "seed_responses")  # sources that ship with guard
SEEDS_POLICY = "mlcommons"  # the policy that their crosswalk maps to


@dataclass(frozen=True, slots=True)
class Replay:
    """The replay settings: a `share` of the rows of each epoch comes from `data`, under `policy`.

    data: a folder made by `guard data build` for that policy; None: the seeds that ship with guard.
    """

    __pydantic_config__ = schema.STRICT

    policy: str = SEEDS_POLICY
    data: str | None = None
    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    def rows(self, own: int) -> int:
        """How many rows an epoch replays beside `own` rows of the user."""
        return round(own * self.share / (1 - self.share))


def replayed(settings: Replay) -> tuple[Policy, list[Example]]:
    """The policy of the replayed rows and all of them, in stored order; no rows for a share of 0.

    ConfigError where seeds are requested under another policy than theirs; DataError where the data is missing.
    """
    rules = policy.load(settings.policy)
    if settings.share == 0:
        return rules, []
    if settings.data is not None:
        return rules, load_examples(Path(settings.data), "train", rules)
    theirs = policy.load(SEEDS_POLICY)
    if rules.codes != theirs.codes:
        raise ConfigError(
            f"replay: the shipped seeds are labelled under {SEEDS_POLICY}, not {rules.id}; give a folder built for it "
            "as replay.data=FOLDER, or switch replay off with replay.share=0"
        )
    return rules, seeds(theirs)


def seeds(rules: Policy) -> list[Example]:
    """The rows of the seeds under `rules`, the policy that their crosswalk leads to."""
    examples = []
    for source in map(description.load, SEEDS):
        table = description.load_crosswalk(source)
        rows = source_rows.rows(source, Path(), table, rules)  # the root is unused: seeds are part of the taxonomy
        examples += [_example(row, source.licence) for row in rows]
    return examples


def _example(row: Row, licence: str) -> Example:
    return Example(
        id=row.id,
        conversation=conversation_of(row),
        label=cast(Label, row.label),
        categories=None if row.categories is None else frozenset(row.categories),
        source=row.source,
        licence=licence,
        language=row.language,
        kind="response" if row.response is not None else "prompt",
        undecided=frozenset(row.undecided),
    )


def drawn(examples: Sequence[Example], count: int, seed: int, epoch: int) -> list[Example]:
    """The epoch's `count` examples, by seed and epoch alone.

    Over the epochs they cycle through all examples in random order: none repeats before every other one has occurred.
    """
    places = range(epoch * count, (epoch + 1) * count) if examples else range(0)
    laps = {place // len(examples) for place in places}
    orders = {lap: _order(len(examples), f"replay/{seed}/{lap}") for lap in laps}
    return [examples[orders[lap][at]] for lap, at in (divmod(place, len(examples)) for place in places)]


def _order(size: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(size), size)
