"""The causal guard in ONNX Runtime: one prefill on top of the policy's cached keys and values, one position read.

Graph inputs: input_ids, position_ids int64 [batch, tokens]; attention_mask int64 [batch, past + tokens]; positions
int64 [batch, read] (where to read); token_ids int64 [wanted] (what to read); past.N.key, past.N.value float32
[batch, heads, past, width]. Outputs: log_probs float32 [batch, read, wanted], normalised over the whole vocabulary;
present.N.key, present.N.value.

A verdict's log-odds are log p(unsafe) - log p(safe), both by the word's first token. Their sum is the label mass: a
model that puts its probability elsewhere was not made for this prompt, which is an error and not a verdict.
A category's log-odds are those of p(unsafe) · q, where q comes from `guard.engines.codes`. That walk costs a forward or
more, so it is taken only where p(unsafe) exceeds a floor; up to the floor q is spread evenly over the policy, and from
there to twice the floor it passes smoothly into the walk's, so that no small difference makes a large one.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guard import schema
from guard.bundle import Bundle
from guard.conversation import Conversation
from guard.engines.base import Reading, Score, Window, padded_batches
from guard.engines.codes import Answer, CodeLine, Request
from guard.engines.session import session
from guard.errors import BundleError, DocumentError, EngineError
from guard.policy import Detail, Policy, ordered
from guard.prompt import Prompt
from guard.verdict import log_odds, sigmoid

SETTINGS = "causal.json"
MAX_BATCH_TOKENS = 8192  # policy included: what its copied keys and values cost counts too
POLICIES_KEPT = 8

Floats = npt.NDArray[np.float32]
Cache = list[Floats]  # key and value of each layer, [batch, heads, tokens, width]


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """`causal.json`. The token ids are what the tokenizer gave at export; at load it must give the same."""

    __pydantic_config__ = schema.STRICT

    detail: Detail  # how much of each category the prompt tells
    safe: tuple[int, ...]
    unsafe: tuple[int, ...]
    end: int
    least_label_mass: float = 0.5  # below it the engine answers with an error
    category_floor: float = 0.05  # the p(unsafe) from which the categories are worth a forward


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is kept of a policy."""

    cache: Cache  # of its prefix, batch of one
    tokens: int
    line: CodeLine
    order: tuple[int, ...]  # of each category, its place in `line.codes`


class CausalOnnxEngine:
    """Thread-safe. Scores are those of fp32 arithmetic and do not depend on the batch."""

    kind = "causal"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        manifest = bundle.manifest
        self.digest = manifest.model
        self._settings = _settings(bundle.path(SETTINGS))
        tokenizer = bundle.path("tokenizer.json")
        self._prompt = Prompt.load(tokenizer, manifest.max_tokens, manifest.overlap, self._settings.detail)
        found = (self._prompt.safe, self._prompt.unsafe, self._prompt.chat.end[0])
        if found != (self._settings.safe, self._settings.unsafe, self._settings.end):
            raise BundleError(f"{tokenizer}: encodes the verdict words as {found}, not as at export; export it again")
        self._graph = CausalGraph(bundle.path("model.onnx"), threads)
        self._policies: OrderedDict[str, _Ready] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        suffixes, total = self._prompt.suffixes(conversation, policy)
        windows = [Window(policy, suffix.ids, (), suffix.start, suffix.end) for suffix in suffixes]
        return Reading(tuple(windows), total, total)

    def score(self, windows: Sequence[Window]) -> list[Score]:
        by_policy: dict[str, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_policy[window.policy.digest].append(index)
        scores: dict[int, Score] = {}
        for indices in by_policy.values():
            ready = self._ready(windows[indices[0]].policy)
            for batch in padded_batches([ready.tokens + len(windows[i].ids) for i in indices], MAX_BATCH_TOKENS):
                chosen = [indices[position] for position in batch]
                scores |= zip(chosen, self._score([windows[i].ids for i in chosen], ready), strict=True)
        return [scores[index] for index in range(len(windows))]

    def _ready(self, policy: Policy) -> _Ready:
        """The policy's prefix, computed once and kept for the policies used last."""
        with self._lock:
            if policy.digest in self._policies:
                self._policies.move_to_end(policy.digest)
                return self._policies[policy.digest]
        prompt = self._prompt
        codes = ordered(policy, policy.codes)
        line = CodeLine(
            (*prompt.unsafe, *prompt.newline),
            tuple(prompt.chat.text(code) for code in codes),
            prompt.comma,
            prompt.chat.end[0],
        )
        prefix = prompt.prefix_ids(policy)
        _, cache = self._graph.run([prefix], self._graph.empty, [0], [[0]], [0])
        ready = _Ready(cache, len(prefix), line, tuple(codes.index(code) for code in policy.codes))
        with self._lock:
            self._policies[policy.digest] = ready
            if len(self._policies) > POLICIES_KEPT:
                self._policies.popitem(last=False)
        return ready

    def _score(self, suffixes: Sequence[Sequence[int]], ready: _Ready) -> list[Score]:
        rows = len(suffixes)
        words = [self._settings.safe[0], self._settings.unsafe[0]]
        past = [layer.repeat(rows, axis=0) for layer in ready.cache]
        last = [[len(ids) - 1] for ids in suffixes]
        log_probs, present = self._graph.run(suffixes, past, [ready.tokens] * rows, last, words)
        safe, unsafe = log_probs[:, 0].astype(np.float64).T
        least = float(np.min(np.exp(safe) + np.exp(unsafe)))
        if not least >= self._settings.least_label_mass:
            raise EngineError(
                f"the model gives the words of a verdict a probability of {least:.3f} together, at least "
                f"{self._settings.least_label_mass} is due: wrong template or untrained model"
            )
        odds = [float(z) for z in unsafe - safe]
        floor = self._settings.category_floor
        likely = [row for row in range(rows) if sigmoid(odds[row]) > floor]
        lengths = [ready.tokens + len(ids) for ids in suffixes]
        walked = self._walk(ready.line, [layer[likely] for layer in present], [lengths[row] for row in likely])
        found = dict(zip(likely, walked, strict=True))
        return [Score(z, _categories(z, found.get(row), ready.order, floor)) for row, z in enumerate(odds)]

    def _walk(self, line: CodeLine, cache: Cache, lengths: list[int]) -> list[tuple[float, ...]]:
        """Probabilities of the codes for each row of `cache`, whose prompts have `lengths` tokens."""
        walks = [line.walk() for _ in lengths]
        done: dict[int, tuple[float, ...]] = {}
        requests: dict[int, Request] = {row: next(walk) for row, walk in enumerate(walks)}
        while requests:
            answers = self._answers(line, cache, lengths, requests)
            requests = {}
            for row, answer in answers.items():
                try:
                    requests[row] = walks[row].send(answer)
                except StopIteration as stop:
                    done[row] = stop.value
        return [done[row] for row in range(len(walks))]

    def _answers(
        self, line: CodeLine, cache: Cache, lengths: Sequence[int], requests: dict[int, Request]
    ) -> dict[int, Answer]:
        asked = [(row, ids) for row, request in requests.items() for ids in request]
        found: dict[int, Floats] = {}
        for batch in padded_batches([lengths[row] + len(ids) for row, ids in asked], MAX_BATCH_TOKENS):
            rows = [asked[index][0] for index in batch]
            continuations = [asked[index][1] for index in batch]
            longest = max(map(len, continuations))
            past = [layer[rows] for layer in cache]
            everywhere = [list(range(longest))] * len(rows)
            log_probs, _ = self._graph.run(continuations, past, [lengths[row] for row in rows], everywhere, line.tokens)
            found |= zip(batch, log_probs, strict=True)
        answers: dict[int, Answer] = {row: [] for row in requests}
        for index, (row, ids) in enumerate(asked):
            answers[row].append(found[index][: len(ids)])
        return answers


class CausalGraph:
    """The exported graph behind plain lists of ids."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._session = session(str(path), threads)
        self._past = {item.name: item.shape for item in self._session.get_inputs() if item.name.startswith("past.")}
        if not self._past:
            raise BundleError(f"{path}: has no inputs past.N.key and past.N.value; export the bundle again")

    @property
    def empty(self) -> Cache:
        """The cache of no tokens, for one row."""
        return [np.zeros((1, shape[1], 0, shape[3]), np.float32) for shape in self._past.values()]

    def run(
        self,
        rows: Sequence[Sequence[int]],
        past: Cache,
        lengths: Sequence[int],
        positions: Sequence[Sequence[int]],
        tokens: Sequence[int],
    ) -> tuple[Floats, Cache]:
        """Log-probabilities [rows, positions, tokens] and the grown cache; rows are padded at the right.

        lengths: how many tokens of `past` are each row's own, the rest is padding. positions: where in the row to read;
        beyond its end the numbers mean nothing. The new cache may serve as `past` if the old one held no padding.
        """
        count, old, longest = len(rows), past[0].shape[2], max(map(len, rows))
        ids = np.zeros((count, longest), np.int64)
        mask = np.zeros((count, old + longest), np.int64)
        for row, (tokens_of_row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[row, : len(tokens_of_row)] = tokens_of_row
            mask[row, :length] = 1
            mask[row, old : old + len(tokens_of_row)] = 1
        feed: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": np.asarray(lengths, np.int64)[:, None] + np.arange(longest),
            "positions": np.asarray(positions, np.int64),
            "token_ids": np.asarray(tokens, np.int64),
            **dict(zip(self._past, past, strict=True)),
        }
        log_probs, *present = self._session.run(None, feed)
        return log_probs, present


def _settings(path: Path) -> CausalSettings:
    try:
        return schema.convert(json.loads(path.read_text(encoding="utf-8")), CausalSettings, str(path))
    except (OSError, ValueError, DocumentError) as problem:
        raise BundleError(f"{path}: not the settings of a causal guard: {problem}; export the bundle again") from None


def _categories(z: float, codes: tuple[float, ...] | None, order: Sequence[int], floor: float) -> tuple[float, ...]:
    """Log-odds of each category in the policy's order from the probabilities of the codes in theirs."""
    p = sigmoid(z)
    even = 1 / len(order)
    trust = min(max(p / floor - 1, 0.0), 1.0)
    shares = [even if codes is None else trust * codes[place] + (1 - trust) * even for place in order]
    return tuple(log_odds(p * share) for share in shares)
