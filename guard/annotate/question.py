"""A question to a judge: asked once, and once more for the verdict alone if the answer cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from guard.annotate.prompts import Messages, reminded
from guard.errors import ConfigError, VerdictError
from guard.llm.client import Client, Endpoint, Request

T = TypeVar("T")
CUT = {"length", "content_filter"}  # how an answer ends that is not whole


@dataclass(frozen=True, slots=True)
class Model:
    """Which model is asked, and how. None is left to the endpoint. Prices are per million tokens."""

    endpoint: Endpoint
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        if (self.price_in is None) != (self.price_out is None):
            raise ConfigError(f"model {self.endpoint.model!r} has one price; give those of both prompts and answers")


@dataclass(frozen=True, slots=True)
class Voice:
    """A model with its open client."""

    name: Literal["judge", "generator"]
    model: Model
    client: Client

    def answer(self, messages: Messages, counts: Counter[str], seed: int | None = None) -> tuple[str, bool]:
        """(text, whole?)"""
        completion = self.client.complete(Request(messages, self.model.temperature, self.model.max_tokens, seed=seed))
        counts[f"{self.name} answers"] += 1
        choice = completion.choices[0]
        return choice.text, choice.finish not in CUT


@dataclass(frozen=True, slots=True)
class Voices:
    """Who judges, and who writes answers where a prompt has too few."""

    judge: Voice
    generator: Voice | None = None


def ask(
    judge: Voice,
    messages: Messages,
    read: Callable[[str, bool], tuple[T, str]],
    reminder: str,
    counts: Counter[str],
    seed: int | None = None,
) -> tuple[T | None, str]:
    """(what `read` reads, reason), or (None, the text) where nothing can be read in two answers.

    read: takes an answer, and whether it was asked for the verdict alone; only the judge's own words come to it. What
    was cut may end in the middle of a quotation, so it is never read.
    """
    counts["judgements"] += 1
    text, whole = judge.answer(messages, counts, seed)
    try:
        if whole:
            return read(text, False)
    except VerdictError:
        pass
    counts["reminded"] += 1
    again, whole = judge.answer(reminded(messages, text, reminder), counts, seed)
    try:
        if whole:
            value, reason = read(again, True)
            return value, reason or text.strip()
    except VerdictError:
        pass
    counts["unparsed"] += 1
    return None, text.strip()
