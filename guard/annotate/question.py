"""A question to a judge: asked once, and once more for the bare verdict if the answer cannot be parsed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from guard.annotate.prompts import Messages, reminded
from guard.errors import ConfigError, VerdictError
from guard.llm.client import Client, Endpoint, Request

T = TypeVar("T")
TRUNCATED = {"length", "content_filter"}  # finish reasons of incomplete answers


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its sampling parameters; None leaves one to the endpoint. Prices are per million tokens."""

    endpoint: Endpoint
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        if (self.price_in is None) != (self.price_out is None):
            raise ConfigError(f"model {self.endpoint.model!r} has one price; give both price_in and price_out")


@dataclass(frozen=True, slots=True)
class ModelClient:
    """A model with its open client."""

    name: Literal["judge", "generator"]
    model: Model
    client: Client

    def answer(self, messages: Messages, counts: Counter[str], seed: int | None = None) -> tuple[str, bool]:
        """(text, whether it is complete)"""
        completion = self.client.complete(Request(messages, self.model.temperature, self.model.max_tokens, seed=seed))
        counts[f"{self.name} answers"] += 1
        choice = completion.choices[0]
        return choice.text, choice.finish not in TRUNCATED


@dataclass(frozen=True, slots=True)
class Models:
    """The judge, and the generator of answers for prompts that have too few."""

    judge: ModelClient
    generator: ModelClient | None = None


def ask(
    judge: ModelClient,
    messages: Messages,
    parse: Callable[[str, bool], tuple[T, str]],
    reminder: str,
    counts: Counter[str],
    seed: int | None = None,
) -> tuple[T | None, str]:
    """(value, reason) by `parse`, or (None, the text) if neither of two answers can be parsed.

    parse: takes an answer, and whether a bare verdict was requested; it sees the judge's own words only. A truncated
    answer may end in the middle of a quotation, so it is never parsed.
    """
    counts["judgements"] += 1
    text, complete = judge.answer(messages, counts, seed)
    try:
        if complete:
            return parse(text, False)
    except VerdictError:
        pass
    counts["reminded"] += 1
    second, complete = judge.answer(reminded(messages, text, reminder), counts, seed)
    try:
        if complete:
            value, reason = parse(second, True)
            return value, reason or text.strip()
    except VerdictError:
        pass
    counts["unparsed"] += 1
    return None, text.strip()
