"""Injections: texts in a message that are aimed at the guard itself. They ask for nothing, so that labels stay.

(Under a policy that has prompt injection as a category they would not: leave them out there.)
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
    """The texts of taxonomy/templates/injections.yaml; {code} and {name} stand for those of a category."""

    __pydantic_config__ = schema.STRICT

    delimiters: tuple[str, ...]
    tokens: tuple[str, ...]
    turns: tuple[str, ...]
    verdicts: tuple[str, ...]
    policies: tuple[str, ...]


@cache
def shipped() -> Mapping[str, tuple[str, ...]]:
    """The injections by kind."""
    found = schema.load(asset("taxonomy/templates/injections.yaml"), Injections)
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}


def draw(policy: Policy, rng: random.Random) -> str:
    """A random injection; all kinds are equally likely. It names a category of the policy if it names any."""
    texts = shipped()
    category = rng.choice(policy.categories)
    return rng.choice(texts[rng.choice(sorted(texts))]).format(code=category.code, name=category.name)


def place(text: str, where: Place, rng: random.Random) -> int:
    """The character at which to inject: the start, the end, or inside, where a line or sentence starts.

    Inside it is the first such place after a random one; the end if there is none.
    """
    if where == "start":
        return 0
    found = _BOUNDARY.search(text, rng.randrange(len(text))) if where == "inside" else None
    return found.end() if found else len(text)


def inject(text: str, injection: str, at: int, separator: str = "\n") -> str:
    """The text with the injection at a character, parted from what stands before and after it."""
    before = separator if at else ""
    after = separator if at < len(text) else ""
    return f"{text[:at]}{before}{injection}{after}{text[at:]}"
