"""How fast a guard is on this machine, by threads, length and batch, and what that suggests for serving it.

Everything is measured as a user meets it: conversations in, verdicts out, tokenization and views included. No two calls
judge the same text.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from guard.conversation import Conversation
from guard.errors import ConfigError, EngineError
from guard.moderator import Moderator, open_moderator

LENGTHS = (8, 48, 160, 640)  # words of a text
BATCHES = (1, 8, 32)  # texts of a call
TYPICAL = 48  # words of the texts that the suggestion is for
ENOUGH = 0.95  # of the most texts a second: a larger batch for the rest is not worth its latency
LEAST_CALLS = 3  # of each measurement, however long they take
LONGEST_CALL_S = 2.0  # of a call: what would take longer is left out, or a few large batches would take minutes
_WORDS = (
    "the garden tomatoes after heavy rain water a train leaves at noon for the coast and we pack bread maps an old "
    "umbrella then walk along the river until dusk while neighbours paint their fence green on Sunday mornings"
)


@dataclass(frozen=True, slots=True)
class Speed:
    """What one combination of threads, length and batch gave.

    tokens: of a text, in the mean. p50_ms, p99_ms: of a call, which judges `batch` texts.
    """

    threads: int
    words: int
    tokens: float
    batch: int
    calls: int
    texts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A combination that was not measured: by the others, a call would take `expected_s`."""

    threads: int
    words: int
    batch: int
    expected_s: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Threads and texts of a call with which texts of `words` words are judged fastest, and what a call takes then."""

    threads: int
    batch: int
    words: int
    texts_per_s: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Bench:
    """start_s: of a new process to its first verdict. peak_mb: of this process, None where the system does not tell."""

    model: str
    kind: str
    start_s: float
    peak_mb: float | None
    speeds: tuple[Speed, ...]
    left_out: tuple[LeftOut, ...]
    suggestion: Suggestion


def bench(
    model: str | None,
    policy: str | None,
    threads: Sequence[int],
    seconds: float = 1.0,
    lengths: Sequence[int] = LENGTHS,
    batches: Sequence[int] = BATCHES,
    longest_call_s: float = LONGEST_CALL_S,
    done: Callable[[Speed | LeftOut], None] = lambda _: None,
) -> Bench:
    """Measures a bundle (None: the shipped guard; `fake`: no model), each combination for about `seconds`.

    longest_call_s: combinations of which a call would take longer are left out, but for the first of each number of
    threads. done: called after each combination with what came of it. Raises ConfigError for numbers below 1,
    BundleError or PolicyError as opening the bundle does, EngineError if a new process cannot judge a text.
    """
    for name, numbers in (("threads", threads), ("lengths", lengths), ("batches", batches)):
        if not numbers or min(numbers) < 1:
            raise ConfigError(f"{name} must be one or more numbers >= 1 (got {', '.join(map(str, numbers)) or 'none'})")
    speeds: list[Speed] = []
    left_out: list[LeftOut] = []
    for count in threads:
        with open_moderator(model, policy, threads=count) as moderator:
            info = moderator.info
            moderator.engine.warm()
            for words, batch in itertools.product(lengths, batches):
                expected_s = _expected_s(words * batch, [each for each in speeds if each.threads == count])
                if expected_s > longest_call_s:
                    left_out.append(LeftOut(count, words, batch, expected_s))
                    done(left_out[-1])
                else:
                    speeds.append(_speed(moderator, count, words, batch, seconds))
                    done(speeds[-1])
    start_s = _start(model, policy)
    return Bench(info.model, info.kind, start_s, _peak_mb(), tuple(speeds), tuple(left_out), suggestion(speeds))


def suggestion(speeds: Sequence[Speed]) -> Suggestion:
    """At the length closest to TYPICAL: the threads that judge most texts a second, and the smallest batch that comes
    close to it."""
    words = min((each.words for each in speeds), key=lambda words: abs(words - TYPICAL))
    typical = [each for each in speeds if each.words == words]
    best = max(typical, key=lambda each: each.texts_per_s)
    close = [each for each in typical if each.threads == best.threads and each.texts_per_s >= ENOUGH * best.texts_per_s]
    chosen = min(close, key=lambda each: each.batch)
    return Suggestion(chosen.threads, chosen.batch, words, chosen.texts_per_s, chosen.p99_ms)


def _expected_s(words: int, speeds: Sequence[Speed]) -> float:
    """Seconds of a call with so many words in all, at the rate of the best of these speeds; 0 without any."""
    return min((each.p50_ms / 1e3 * words / (each.words * each.batch) for each in speeds), default=0.0)


def _texts(words: int) -> Iterator[Conversation]:
    """Different harmless texts without end, the same in every run."""
    pick, vocabulary = random.Random(words), _WORDS.split()
    while True:
        yield Conversation.of(" ".join(pick.choices(vocabulary, k=words)))


def _speed(moderator: Moderator, threads: int, words: int, batch: int, seconds: float) -> Speed:
    texts = _texts(words)
    moderator.moderate(list(itertools.islice(texts, batch)))  # the first call of a shape allocates its memory
    taken: list[float] = []
    tokens = 0
    while len(taken) < LEAST_CALLS or sum(taken) < seconds:
        call = list(itertools.islice(texts, batch))
        before = time.perf_counter()
        verdicts = moderator.moderate(call)
        taken.append(time.perf_counter() - before)
        tokens += sum(verdict.coverage.tokens_total for verdict in verdicts)
    total, judged = sum(taken), len(taken) * batch
    p50, p99 = (float(each) * 1e3 for each in np.quantile(taken, [0.5, 0.99]))
    return Speed(threads, words, tokens / judged, batch, len(taken), judged / total, tokens / total, p50, p99)


def _start(model: str | None, policy: str | None) -> float:
    options = [*(() if model is None else ("--model", model)), *(() if policy is None else ("--policy", policy))]
    before = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "guard", "check", *options, "hello"], capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - before
    if process.returncode not in (0, 1):
        reason = process.stderr.strip().splitlines()
        raise EngineError(f"a new process cannot judge a text: {reason[-1] if reason else process.returncode}")
    return taken


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
