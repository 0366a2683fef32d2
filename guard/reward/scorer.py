"""A reward model as its callers use it: `score` of an answer, `compare` of two, and many at once."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.conversation import Message, parse_messages
from guard.errors import ConfigError, EngineError, InvalidInput
from guard.reward.score import (
    Asked,
    Compared,
    Comparison,
    Messages,
    Reader,
    Reading,
    RewardCalibration,
    RewardScore,
    clipped,
)
from guard.verdict import sigmoid

Prompt = str | Sequence[Mapping[str, Any]] | Messages


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """fingerprint: a digest of all that a score depends on; scores of equal fingerprints may share a cache."""

    system: str
    rule: str
    fingerprint: str
    writes: bool = False


@dataclass(frozen=True, eq=False)
class Scorer:
    """Thread-safe as its reader is. InvalidInput for an empty answer, EngineError where the model gives NaN; errors
    never show a text.

    learnt: the `prompt_key`s of rows that it learnt from, by which nothing may be measured.
    """

    info: ScorerInfo
    reader: Reader
    calibration: RewardCalibration = field(default_factory=RewardCalibration)
    learnt: frozenset[str] = frozenset()

    def seeded(self, seed: int) -> Scorer:
        """The same model with another seed for what it samples, which is part of its fingerprint."""
        info = dataclasses.replace(self.info, fingerprint=f"{self.info.fingerprint}/seed {seed}")
        return dataclasses.replace(self, info=info, reader=self.reader.seeded(seed))

    def score(self, prompt: Prompt, response: str, reference: str | None = None) -> RewardScore:
        """How good an answer is; of a pairwise system, how likely it beats `reference`, which it needs."""
        return self.score_many([(prompt, response)], None if reference is None else [reference])[0]

    def score_many(
        self, asked: Sequence[tuple[Prompt, str]], references: Sequence[str] | None = None
    ) -> list[RewardScore]:
        """The score of each answer, in order, whatever it stands beside."""
        rows = [(messages_of(prompt), _visible(response)) for prompt, response in asked]
        if self.reader.pairwise:
            if references is None:
                raise ConfigError(
                    f"{self.info.system} compares answers; give `reference`, an answer to beat, or use `tournament`"
                )
            compared = [(*row, _visible(reference)) for row, reference in zip(rows, references, strict=True)]
            return [self._of_order(orders) for orders in self._pairs(compared)]
        if references is None:
            return [self._of_reading(reading) for reading in self._singles(rows)]
        others = self._singles([(row[0], _visible(text)) for row, text in zip(rows, references, strict=True)])
        pairs = zip(self._singles(rows), others, strict=True)
        return [self._of_difference(reading, other.z) for reading, other in pairs]

    def compare(self, prompt: Prompt, a: str, b: str) -> Comparison:
        """How likely answer `a` is better than `b`."""
        return self.compare_many([(prompt, a, b)])[0]

    def compare_many(self, asked: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """The comparison of each pair, in order."""
        rows: list[Compared] = [(messages_of(prompt), _visible(a), _visible(b)) for prompt, a, b in asked]
        if self.reader.pairwise:
            return [self._both_orders(*orders) for orders in self._pairs(rows)]
        firsts = self._singles([(prompt, a) for prompt, a, _ in rows])
        seconds = self._singles([(prompt, b) for prompt, _, b in rows])
        return [self._of_singles(a, b) for a, b in zip(firsts, seconds, strict=True)]

    def tournament(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """Each answer's mean probability of beating the others, in order; 0.5 on the whole."""
        return self.tournaments([(prompt, responses)])[0]

    def tournaments(self, asked: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """A tournament for each prompt, all games at once."""
        games = [
            (row, a, b)
            for row, (_, responses) in enumerate(asked)
            for a, b in itertools.combinations(range(len(responses)), 2)
        ]
        played = self.compare_many([(asked[row][0], asked[row][1][a], asked[row][1][b]) for row, a, b in games])
        won: list[list[list[float]]] = [[[] for _ in responses] for _, responses in asked]
        for (row, a, b), game in zip(games, played, strict=True):
            won[row][a].append(game.p)
            won[row][b].append(1 - game.p)
        return [[statistics.fmean(each) if each else 0.5 for each in answers] for answers in won]

    def check_mass(self, asked: Sequence[Asked], least: float) -> None:
        """EngineError if the words that decide have too little probability: the prompt is not the model's."""
        if self.reader.pairwise:
            masses = [o.mass for orders in self.reader.pairs([(p, a, f"{a}.") for p, a in asked]) for o in orders]
        else:
            masses = [reading.mass for reading in self.reader.singles(asked)]
        if (mean := statistics.fmean(masses)) < least:
            raise EngineError(
                f"{self.info.system}: the words that decide have a probability of {mean:.3f}, must be >= {least:g}: "
                "the base, the adapter or the prompt is another one than in training"
            )

    def drift(self, asked: Sequence[Asked]) -> float | None:
        """By how many standard errors the mean score of the anchors moved since calibration; None without anchors."""
        before = self.calibration.anchors
        if len(before) < 2 or self.reader.pairwise:
            return None
        now = [reading.z for reading in self.reader.singles(asked)]
        error = statistics.stdev(before) / len(before) ** 0.5
        moved = abs(statistics.fmean(now) - statistics.fmean(before))
        return moved / error if error else float(moved > 0) * float("inf") if moved else 0.0

    # -- readings to values ---------------------------------------------------------------------------------------

    def _singles(self, asked: Sequence[Asked]) -> list[Reading]:
        return [self._number(reading) for reading in self.reader.singles(asked)]

    def _pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        return [(self._number(a), self._number(b)) for a, b in self.reader.pairs(asked)]

    def _number(self, reading: Reading) -> Reading:
        """EngineError for NaN, which compares with nothing: a failure of the model must not pass for a low score."""
        if math.isnan(reading.z):
            raise EngineError(f"{self.info.system} gave no number (NaN) for an answer")
        return reading

    def _of_reading(self, reading: Reading) -> RewardScore:
        odds = self.calibration.log_odds(reading.z)
        return RewardScore(
            clipped(odds),
            sigmoid(odds),
            reading.z,
            reading.mass,
            reading.coverage,
            reading.rationale,
            reading.attributes,
        )

    def _of_difference(self, reading: Reading, other: float) -> RewardScore:
        odds = self.calibration.slope * (reading.z - other)
        return RewardScore(
            clipped(odds),
            sigmoid(odds),
            reading.z,
            reading.mass,
            reading.coverage,
            reading.rationale,
            reading.attributes,
        )

    def _of_order(self, orders: tuple[Reading, Reading]) -> RewardScore:
        game, z = self._both_orders(*orders), statistics.fmean(reading.z for reading in orders)
        odds = self.calibration.slope * z
        return RewardScore(clipped(odds), game.p, z, game.mass, game.coverage, game.rationale)

    def _both_orders(self, first: Reading, second: Reading) -> Comparison:
        p, other = (self.calibration.preference(reading.z) for reading in (first, second))
        return Comparison(
            (p + other) / 2,
            abs(p - other),
            min(first.mass, second.mass),
            min(first.coverage, second.coverage),
            first.rationale,
        )

    def _of_singles(self, a: Reading, b: Reading) -> Comparison:
        return Comparison(
            self.calibration.preference(a.z - b.z),
            0.0,
            min(a.mass, b.mass),
            min(a.coverage, b.coverage),
            "\n\n".join(filter(None, (a.rationale, b.rationale))),
        )


def messages_of(prompt: Prompt) -> Messages:
    """A prompt as messages: a text is one of the user's. InvalidInput if there is none."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, tuple) and all(isinstance(message, Message) for message in prompt):
        found: Messages = prompt
    else:
        found = parse_messages(prompt, "prompt")
    if not found:
        raise InvalidInput("a prompt needs at least one message")
    return found


def _visible(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("an answer must be a text with at least one visible character")
    return text
