"""The causal guard in ONNX Runtime: one prefill on top of the policy's cached keys and values, one position read.

A verdict's log-odds are log p(unsafe) - log p(safe), both by the word's first token. Their sum is the label mass: a
model that puts its probability elsewhere was not made for this prompt, which is an error and not a verdict. An output
layer that was cut to the ids of verdicts (`head`) knows only the mass among these: the whole was measured at export.
A category's log-odds are those of p(unsafe) · q, where q comes from `guard.engines.codes`. That walk costs a forward or
more, so it is taken only where p(unsafe) exceeds a floor; up to the floor q is spread evenly over the policy, and from
there to twice the floor it passes smoothly into the walk's, so that no small difference makes a large one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field, NonNegativeInt

from guard import schema
from guard.bundle import Bundle, same_renderer
from guard.conversation import Conversation
from guard.engines.base import EngineInfo, Renderer, padded_batches, sound
from guard.engines.causal_graph import Cache, CausalGraph, Floats
from guard.engines.codes import Answer, CodeWalk, Request
from guard.engines.fields import field_steps
from guard.engines.policy_cache import PolicyCache
from guard.engines.session import CLOSED
from guard.errors import BundleError, DocumentError, EngineError, PolicyError
from guard.policy import Detail, Policy
from guard.prompts.prompt import load_prompt
from guard.prompts.window import RESPONSE, Ids, Score, TokenizedConversation, Window
from guard.verdict import log_odds, sigmoid

SETTINGS = "causal.json"
MAX_BATCH_TOKENS = 8192  # policy included: what its copied keys and values cost counts too
PREFIX_BYTES = 1 << 30  # of the keys and values of policies: of an 8B model in fp16 some 8,000 tokens

NEVER = log_odds(0.0)  # of a category that a window does not ask about
Found = TypeVar("Found")
Tokens = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """`causal.json`. The token ids are what the tokenizer gave at export; at load it must give the same."""

    __pydantic_config__ = schema.STRICT

    detail: Detail  # how much of each category the prompt contains
    safe: Tokens
    unsafe: Tokens
    end: NonNegativeInt
    least_label_mass: schema.Share = 0.5  # below it the engine answers with an error
    category_floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05  # the p(unsafe) from which a walk is worth a forward
    form: str = "fp32"  # how the weights are stored, see guard.train.causal.quantise
    head: Tokens | None = None  # the ids that the output layer was cut to, in its order; None: all


def settings_of(bundle: Bundle) -> CausalSettings:
    """The `causal.json` of a bundle, BundleError if it breaks its schema."""
    path = bundle.path(SETTINGS)
    try:
        return schema.convert(json.loads(path.read_text(encoding="utf-8")), CausalSettings, str(path))
    except (OSError, ValueError, DocumentError) as problem:
        reason = "; ".join(str(problem).splitlines())
        raise BundleError(f"{path}: not the settings of a causal guard: {reason}; export the bundle again") from None


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What is cached of a policy."""

    cache: Cache  # keys and values of its tokens, batch of one
    tokens: int
    walk: CodeWalk | None  # None of a guard that names no categories

    @property
    def bytes(self) -> int:
        return sum(layer.nbytes for layer in self.cache)


class CausalRenderer:
    """Thread-safe; threads change nothing. BundleError if this version renders the model's input differently from its
    training."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        manifest = bundle.manifest
        self._settings = settings_of(bundle)
        self.info = EngineInfo(manifest.kind, manifest.model, manifest.languages, 1, "cpu", MAX_BATCH_TOKENS)
        tokenizer = bundle.path("tokenizer.json")
        self._prompt = load_prompt(tokenizer, manifest.max_tokens, manifest.overlap, self._settings.detail)
        same_renderer(bundle, self._prompt.digest)
        words = (self._prompt.safe, self._prompt.unsafe, self._prompt.chat.end[0])
        if words != (self._settings.safe, self._settings.unsafe, self._settings.end):
            raise BundleError(f"{tokenizer}: encodes the verdict words as {words}, unlike at export; export it again")
        self._rows = None if self._settings.head is None else {id_: row for row, id_ in enumerate(self._settings.head)}

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        if self._rows is not None:
            choices = set(self._prompt.grammar(policy).choices)
            if lacking := sorted(choices - set(self._rows)):
                raise PolicyError(
                    f"policy {policy.id!r}: its codes take the tokens {lacking}, and this guard's output layer was cut "
                    "to the verdicts of its own policy; export it again with --head full"
                )
        return self._prompt.tokenize(conversation, policy)

    def cost(self, window: Window) -> int:
        return len(self._prompt.prefix_ids(window.policy)) + len(window.ids)


class CausalOnnxEngine(CausalRenderer):
    """Thread-safe. Scores are those of fp32 arithmetic and do not depend on the batch."""

    ready = True

    def __init__(self, bundle: Bundle, threads: int | None = None, graph: CausalGraph | None = None) -> None:
        """graph: the bundle's, opened in another way than for serving on the CPU."""
        super().__init__(bundle)
        self._policy = bundle.policy
        self._open: CausalGraph | None = graph or CausalGraph.open(bundle.path("model.onnx"), threads)
        self._prefixes: PolicyCache[str, _Prefix] = PolicyCache(PREFIX_BYTES, lambda _, prefix: prefix.bytes)

    @property
    def _graph(self) -> CausalGraph:
        if self._open is None:
            raise EngineError(CLOSED)
        return self._open

    @property
    def renderer(self) -> Renderer:
        return self

    def prepare(self, policy: Policy) -> None:
        self._prefix(policy)

    def warm(self) -> None:
        self.score(self.tokenize(Conversation.of("hello"), self._policy).windows)

    def close(self) -> None:
        self._open = None
        self._prefixes.clear()

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        by_policy: dict[str, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_policy[window.policy.digest].append(index)
        scores: dict[int, Score | EngineError] = {}
        for indices in by_policy.values():
            prefix = self._prefix(windows[indices[0]].policy)
            for batch in padded_batches([prefix.tokens + len(windows[i].ids) for i in indices], MAX_BATCH_TOKENS):
                chosen = [indices[position] for position in batch]
                scores |= zip(chosen, self._score([windows[i] for i in chosen], prefix), strict=True)
        return [scores[index] for index in range(len(windows))]

    def _prefix(self, policy: Policy) -> _Prefix:
        def compute(_: Sequence[str]) -> list[_Prefix]:
            prefix = self._prompt.prefix_ids(policy)
            _log_probs, cache = self._graph.run([prefix], self._graph.empty, [0], [[0]], [0])
            grammar = self._prompt.grammar(policy)
            return [_Prefix(cache, len(prefix), CodeWalk(grammar) if grammar.codes else None)]

        return self._prefixes.get([policy.digest], compute)[0]

    def _head_rows(self, tokens: Sequence[int]) -> list[int]:
        """The rows of the output layer that stand for these tokens."""
        return list(tokens) if self._rows is None else [self._rows[token] for token in tokens]

    def _score(self, windows: Sequence[Window], prefix: _Prefix) -> list[Score | EngineError]:
        rows, ids = range(len(windows)), [window.ids for window in windows]
        words = self._head_rows([self._settings.safe[0], self._settings.unsafe[0]])
        last = [[len(suffix) - 1] for suffix in ids]
        lengths = [prefix.tokens] * len(rows)
        log_probs, present = self._graph.run(ids, prefix.cache, lengths, last, words, past_index=[0] * len(rows))
        safe, unsafe = log_probs[:, 0].astype(np.float64).T
        mass = np.exp(safe) + np.exp(unsafe)
        logits = [float(z) for z in unsafe - safe]
        floor = self._settings.category_floor
        scorable = [row for row in rows if mass[row] >= self._settings.least_label_mass]
        whole = [prefix.tokens + len(suffix) for suffix in ids]
        found = {row: Score(logits[row]) for row in scorable}
        walked: dict[int, dict[str, float]] = {}
        if prefix.walk is not None:
            walks = {row: prefix.walk.steps() for row in scorable if sigmoid(logits[row]) > floor}
            walked = self._walk(walks, prefix.walk.grammar.choices, present, whole)
        elif asked := [row for row in scorable if windows[row].asks == RESPONSE]:
            answers, between = (self._settings.safe, self._settings.unsafe), self._prompt.fields
            fields = {row: field_steps(logits[row], answers, between) for row in asked}
            found |= self._walk(fields, (answers[0][0], answers[1][0]), present, whole)
        scores: list[Score | EngineError] = [self._low_mass(float(each)) for each in mass]
        for row, score in found.items():
            window = windows[row]
            if window.asks in window.policy.codes:
                each = tuple(score.unsafe if code == window.asks else NEVER for code in window.policy.codes)
            else:
                each = _categories(score.unsafe, walked.get(row), window.policy, floor)
            scores[row] = sound(Score(score.unsafe, each, score.refusal), window)
        return scores

    def _low_mass(self, mass: float) -> EngineError:
        return EngineError(
            f"the label mass (p(safe) + p(unsafe)) is {mass:.3f}, must be >= {self._settings.least_label_mass}: wrong "
            "template or untrained model"
        )

    def _walk(
        self,
        walks: Mapping[int, Generator[Request, Answer, Found]],
        choices: Ids,
        cache: Cache,
        lengths: Sequence[int],
    ) -> dict[int, Found]:
        """What the walks of rows of `cache` return; the prompts of all rows have `lengths` tokens."""
        returned: dict[int, Found] = {}
        requests: dict[int, Request] = {row: next(steps) for row, steps in walks.items()}
        while requests:
            answers = self._answers(choices, cache, lengths, requests)
            requests = {}
            for row, answer in answers.items():
                try:
                    requests[row] = walks[row].send(answer)
                except StopIteration as stop:
                    returned[row] = stop.value
        return returned

    def _answers(
        self, choices: Ids, cache: Cache, lengths: Sequence[int], requests: dict[int, Request]
    ) -> dict[int, Answer]:
        queries = [(row, ids) for row, request in requests.items() for ids in request]
        columns = self._head_rows(choices)
        results: dict[int, Floats] = {}
        for batch in padded_batches([lengths[row] + len(ids) for row, ids in queries], MAX_BATCH_TOKENS):
            rows = [queries[index][0] for index in batch]
            continuations = [queries[index][1] for index in batch]
            everywhere = [list(range(max(map(len, continuations))))] * len(rows)
            own_lengths = [lengths[row] for row in rows]
            log_probs, _ = self._graph.run(continuations, cache, own_lengths, everywhere, columns, past_index=rows)
            results |= zip(batch, log_probs, strict=True)
        answers: dict[int, Answer] = {row: [] for row in requests}
        for index, (row, ids) in enumerate(queries):
            answers[row].append(results[index][: len(ids)])
        return answers


def _categories(z: float, codes: dict[str, float] | None, policy: Policy, floor: float) -> tuple[float, ...]:
    """Log-odds of each category, in the policy's order, from the probabilities of the codes in a verdict."""
    p = sigmoid(z)
    even = 1 / len(policy.codes)
    trust = min(max(p / floor - 1, 0.0), 1.0)
    shares = [even if codes is None else trust * codes[code] + (1 - trust) * even for code in policy.codes]
    return tuple(log_odds(p * share) for share in shares)
