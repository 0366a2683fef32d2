"""Judged examples for a chat model that is asked to judge."""

from __future__ import annotations

import random
from collections.abc import Sequence

from guard.conversation import Example
from guard.errors import DataError
from guard.policy import Policy
from guard.prompts.prompted import Shot

SHOT_CHARACTERS = 300  # a longer text is no example: each takes its share of every prompt


def choose_shots(examples: Sequence[Example], count: int, policy: Policy, seed: int) -> tuple[Shot, ...]:
    """As many safe as unsafe examples (one more safe if the number is odd), in random order, none of them long.

    Unsafe ones have known categories of the policy. DataError if there are too few.
    """
    rng = random.Random(seed)
    short = [
        example
        for example in examples
        if sum(len(message.content) for message in example.conversation.messages) <= SHOT_CHARACTERS
        and (example.label == "safe" or (example.categories and example.categories <= set(policy.codes)))
    ]
    chosen: list[Example] = []
    for label, wanted in (("safe", count - count // 2), ("unsafe", count // 2)):
        rows = [example for example in short if example.label == label]
        if len(rows) < wanted:
            raise DataError(
                f"--shots {count}: there are {len(rows)} {label} rows of at most {SHOT_CHARACTERS} characters "
                f"under policy {policy.id!r}, and {wanted} are needed; ask for fewer"
            )
        chosen += rng.sample(rows, wanted)
    rng.shuffle(chosen)
    return tuple(_shot(example) for example in chosen)


def _shot(example: Example) -> Shot:
    messages = tuple((message.role, message.content) for message in example.conversation.messages)
    return Shot(messages, None if example.label == "safe" else tuple(sorted(example.categories or ())))
