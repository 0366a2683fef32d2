"""Injections: texts inside a message that are aimed at the guard itself. They request nothing, so that labels stay.

(Under a policy with a category for prompt injection they would not: disable them there.)
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from guard import schema
from guard.assets import asset
from guard.policy import Policy

Kind = Literal["delimiters", "tokens", "turns", "verdicts", "policies"]
Place = Literal["start", "inside", "end"]
PLACES: tuple[Place, ...] = get_args(Place)
# The end of a line or of a sentence. Chinese and Japanese write no space after one.
_BOUNDARY = re.compile(r"\n+|[.!?][ \t]+|[。！？]+")


@dataclass(frozen=True, slots=True)
class Injections:
    """The texts of taxonomy/templates/injections.yaml; {code} and {name} are those of a category."""

    __pydantic_config__ = schema.STRICT

    delimiters: tuple[str, ...]
    tokens: tuple[str, ...]
    turns: tuple[str, ...]
    verdicts: tuple[str, ...]
    policies: tuple[str, ...]


@cache
def shipped() -> Mapping[str, tuple[str, ...]]:
    """The injections by kind."""
    injections = schema.load(asset("taxonomy/templates/injections.yaml"), Injections)
    return {field.name: getattr(injections, field.name) for field in dataclasses.fields(injections)}


def draw(policy: Policy, rng: random.Random) -> str:
    """A random injection, uniform over kinds. If it names a category, it is one of the policy."""
    texts = shipped()
    category = rng.choice(policy.categories)
    return rng.choice(texts[rng.choice(sorted(texts))]).format(code=category.code, name=category.name)


def position_of(text: str, place: Place, rng: random.Random) -> int:
    """The character index at which to inject: the start, the end, or the start of a line or sentence inside.

    Inside, it is the first such start after a random index, or the end if there is none.
    """
    if place == "start":
        return 0
    boundary = _BOUNDARY.search(text, rng.randrange(len(text))) if place == "inside" else None
    return boundary.end() if boundary else len(text)


def inject(text: str, injection: str, at: int, separator: str = "\n") -> str:
    """The text with the injection at index `at`, with separators before and after it."""
    before = separator if at else ""
    after = separator if at < len(text) else ""
    return f"{text[:at]}{before}{injection}{after}{text[at:]}"
