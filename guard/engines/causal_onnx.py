"""The causal guard in ONNX Runtime: one prefill on top of the policy's cached keys and values, one position read.

Graph inputs: input_ids, position_ids int64 [batch, tokens]; attention_mask int64 [batch, past + tokens]; past_index
int64 [batch] (which row of the past each row goes on from); logit_index int64 [batch, read] (where to read); token_ids
int64 [wanted] (what to read: rows of the output layer); past.N.key, past.N.value float32 or float16 [kept, heads, past,
width]. Outputs: log_probs float32 [batch, read, wanted], normalised over the rows of the output layer; present.N.key,
present.N.value. Graphs of version 0.1 say `positions` for logit_index and have no past_index.

A verdict's log-odds are log p(unsafe) - log p(safe), both by the word's first token. Their sum is the label mass: a
model that puts its probability elsewhere was not made for this prompt, which is an error and not a verdict. An output
layer that was cut to the ids of verdicts (`head`) knows only the mass among these: the whole was measured at export.
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
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import Field, NonNegativeInt

from guard import schema
from guard.bundle import Bundle, same_renderer
from guard.conversation import Conversation
from guard.engines.base import Reading, Score, Window, padded_batches
from guard.engines.codes import Answer, CodeLine, Request
from guard.engines.session import session
from guard.errors import BundleError, DocumentError, EngineError, PolicyError
from guard.policy import Detail, Policy, ordered
from guard.prompt import Prompt
from guard.verdict import log_odds, sigmoid

SETTINGS = "causal.json"
MAX_BATCH_TOKENS = 8192  # policy included: what its copied keys and values cost counts too
POLICIES_KEPT = 8

Tokens = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Floats = npt.NDArray[np.float32]
Cache = list[npt.NDArray[Any]]  # key and value of each layer, [batch, heads, tokens, width]

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """`causal.json`. The token ids are what the tokenizer gave at export; at load it must give the same."""

    __pydantic_config__ = schema.STRICT

    detail: Detail  # how much of each category the prompt tells
    safe: Tokens
    unsafe: Tokens
    end: NonNegativeInt
    least_label_mass: schema.Share = 0.5  # below it the engine answers with an error
    category_floor: Annotated[float, Field(gt=0.0, le=1.0)] = (
        0.05  # the p(unsafe) from which the categories are worth a forward
    )
    form: str = "fp32"  # how the weights are stored, see guard.train.quantise
    head: Tokens | None = None  # the ids that the output layer was cut to, in its order; None: all


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

    def __init__(self, bundle: Bundle, threads: int | None = None, graph: CausalGraph | None = None) -> None:
        """graph: the bundle's, opened in another way than for serving on the CPU."""
        manifest = bundle.manifest
        self.digest = manifest.model
        self._settings = _settings(bundle.path(SETTINGS))
        tokenizer = bundle.path("tokenizer.json")
        self._prompt = Prompt.load(tokenizer, manifest.max_tokens, manifest.overlap, self._settings.detail)
        same_renderer(bundle, self._prompt.digest)
        found = (self._prompt.safe, self._prompt.unsafe, self._prompt.chat.end[0])
        if found != (self._settings.safe, self._settings.unsafe, self._settings.end):
            raise BundleError(f"{tokenizer}: encodes the verdict words as {found}, not as at export; export it again")
        self._graph = graph or CausalGraph.open(bundle.path("model.onnx"), threads)
        self._rows = None if self._settings.head is None else {id_: row for row, id_ in enumerate(self._settings.head)}
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
        spelling = prompt.spelling(policy)
        line = CodeLine(spelling.start, spelling.codes, spelling.separator, prompt.chat.end[0])
        if self._rows is not None and not set(line.tokens) <= set(self._rows):
            lacking = sorted(set(line.tokens) - set(self._rows))
            raise PolicyError(
                f"policy {policy.id!r}: its codes take the tokens {lacking}, and this guard's output layer was cut to "
                "the verdicts of its own policy; export it again with --head full"
            )
        prefix = prompt.prefix_ids(policy)
        _, cache = self._graph.run([prefix], self._graph.empty, [0], [[0]], [0])
        codes = ordered(policy, policy.codes)
        ready = _Ready(cache, len(prefix), line, tuple(codes.index(code) for code in policy.codes))
        with self._lock:
            self._policies[policy.digest] = ready
            if len(self._policies) > POLICIES_KEPT:
                self._policies.popitem(last=False)
        return ready

    def _head_rows(self, tokens: Sequence[int]) -> list[int]:
        """The rows of the output layer that stand for these tokens."""
        return list(tokens) if self._rows is None else [self._rows[token] for token in tokens]

    def _score(self, suffixes: Sequence[Sequence[int]], ready: _Ready) -> list[Score]:
        rows = len(suffixes)
        words = self._head_rows([self._settings.safe[0], self._settings.unsafe[0]])
        last = [[len(ids) - 1] for ids in suffixes]
        log_probs, present = self._graph.run(
            suffixes, ready.cache, [ready.tokens] * rows, last, words, past_index=[0] * rows
        )
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
        walked = self._walk(ready.line, present, [ready.tokens + len(ids) for ids in suffixes], likely)
        return [Score(z, _categories(z, walked.get(row), ready.order, floor)) for row, z in enumerate(odds)]

    def _walk(
        self, line: CodeLine, cache: Cache, lengths: Sequence[int], rows: Sequence[int]
    ) -> dict[int, tuple[float, ...]]:
        """Probabilities of the codes for `rows` of `cache`; the prompts of all rows have `lengths` tokens."""
        walks = {row: line.walk() for row in rows}
        done: dict[int, tuple[float, ...]] = {}
        requests: dict[int, Request] = {row: next(walk) for row, walk in walks.items()}
        while requests:
            answers = self._answers(line, cache, lengths, requests)
            requests = {}
            for row, answer in answers.items():
                try:
                    requests[row] = walks[row].send(answer)
                except StopIteration as stop:
                    done[row] = stop.value
        return done

    def _answers(
        self, line: CodeLine, cache: Cache, lengths: Sequence[int], requests: dict[int, Request]
    ) -> dict[int, Answer]:
        asked = [(row, ids) for row, request in requests.items() for ids in request]
        wanted = self._head_rows(line.tokens)
        found: dict[int, Floats] = {}
        for batch in padded_batches([lengths[row] + len(ids) for row, ids in asked], MAX_BATCH_TOKENS):
            rows = [asked[index][0] for index in batch]
            continuations = [asked[index][1] for index in batch]
            everywhere = [list(range(max(map(len, continuations))))] * len(rows)
            own = [lengths[row] for row in rows]
            log_probs, _ = self._graph.run(continuations, cache, own, everywhere, wanted, past_index=rows)
            found |= zip(batch, log_probs, strict=True)
        answers: dict[int, Answer] = {row: [] for row in requests}
        for index, (row, ids) in enumerate(asked):
            answers[row].append(found[index][: len(ids)])
        return answers


class CausalGraph:
    """The exported graph behind plain lists of ids."""

    def __init__(self, opened: onnxruntime.InferenceSession, where: str) -> None:
        self._session = opened
        inputs = opened.get_inputs()
        self._names = {item.name for item in inputs}
        self._past = {item.name: item for item in inputs if item.name.startswith("past.")}
        if not self._past:
            raise BundleError(f"{where}: has no inputs past.N.key and past.N.value; export the bundle again")

    @classmethod
    def open(cls, path: Path, threads: int | None = None) -> CausalGraph:
        return cls(session(str(path), threads), str(path))

    @property
    def empty(self) -> Cache:
        """The cache of no tokens, for one row."""
        items = self._past.values()
        return [np.zeros((1, item.shape[1], 0, item.shape[3]), _TYPES[item.type]) for item in items]

    def run(
        self,
        rows: Sequence[Sequence[int]],
        past: Cache,
        lengths: Sequence[int],
        logit_index: Sequence[Sequence[int]],
        tokens: Sequence[int],
        past_index: Sequence[int] | None = None,
    ) -> tuple[Floats, Cache]:
        """Log-probabilities [rows, places, tokens] and the grown cache; rows are padded at the right.

        lengths: how many tokens of its past are each row's own, the rest is padding. logit_index: where in the row to
        read; beyond its end the numbers mean nothing. past_index: the row of `past` that each row goes on from, each
        its own if not given. The new cache may serve as `past` if the old one held no padding.
        """
        count, old, longest = len(rows), past[0].shape[2], max(map(len, rows))
        ids = np.zeros((count, longest), np.int64)
        mask = np.zeros((count, old + longest), np.int64)
        for row, (tokens_of_row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[row, : len(tokens_of_row)] = tokens_of_row
            mask[row, :length] = 1
            mask[row, old : old + len(tokens_of_row)] = 1
        index = np.asarray(range(count) if past_index is None else past_index, np.int64)
        if "past_index" not in self._names:  # a graph of version 0.1
            past = [layer[index] for layer in past]
        places = np.asarray(logit_index, np.int64)
        feed: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": np.asarray(lengths, np.int64)[:, None] + np.arange(longest),
            "past_index": index,
            "logit_index": places,
            "positions": places,
            "token_ids": np.asarray(tokens, np.int64),
            **dict(zip(self._past, past, strict=True)),
        }
        log_probs, *present = self._session.run(None, {name: feed[name] for name in self._names})
        return log_probs, present


def _settings(path: Path) -> CausalSettings:
    try:
        return schema.convert(json.loads(path.read_text(encoding="utf-8")), CausalSettings, str(path))
    except (OSError, ValueError, DocumentError) as problem:
        told = "; ".join(str(problem).splitlines())
        raise BundleError(f"{path}: not the settings of a causal guard: {told}; export the bundle again") from None


def _categories(z: float, codes: tuple[float, ...] | None, order: Sequence[int], floor: float) -> tuple[float, ...]:
    """Log-odds of each category in the policy's order from the probabilities of the codes in theirs."""
    p = sigmoid(z)
    even = 1 / len(order)
    trust = min(max(p / floor - 1, 0.0), 1.0)
    shares = [even if codes is None else trust * codes[place] + (1 - trust) * even for place in order]
    return tuple(log_odds(p * share) for share in shares)
