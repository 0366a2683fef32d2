"""The embedded guard: a small encoder in ONNX Runtime, with the policy's category vectors as an input of the graph.

Graph inputs: input_ids, attention_mask, token_type_ids int64 [batch, tokens]; categories float32 [categories, width].
Outputs: vector float32 [batch, width], the text's embedding; logits float32 [batch, categories]; refusal float32
[batch], the log-odds that a response refuses.
A category's vector is the `vector` of its own words. It is kept by these words, so that a policy costs one small batch,
once, and a part of it, or its categories in another order, nothing.
The verdict is the OR of the categories (see `any_category`): it was trained on one, over the bundle's own policy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from guard import policy as policies
from guard.bundle import Bundle, same_renderer
from guard.conversation import Conversation
from guard.engines.base import EngineInfo, Renderer, padded_batches, sound
from guard.engines.policy_cache import PolicyCache
from guard.engines.session import CLOSED, session, usable_cores
from guard.errors import BundleError, EngineError
from guard.policy import Policy
from guard.prompts.encoder import LAYOUT_DIGEST, EncoderInput, category_text
from guard.prompts.window import Score, TokenizedConversation, Window

if TYPE_CHECKING:
    import onnxruntime

# The activations of 512 tokens stay in a core's cache: with 2048 a token takes 1.1 times as long in fp32, 1.4 in int8.
CORE_BATCH_TOKENS = 512
MAX_BATCH_TOKENS = 2048  # on any number of cores: larger batches only delay the first answer
VECTOR_BYTES = 16 << 20  # of category vectors and their words: some 8,000 categories
STRANGE = 6  # categories of policies that a guard was not trained for
LANGUAGES = ("en",)  # of guards that do not state theirs: all that began from an English encoder
INPUTS = {"input_ids", "attention_mask", "token_type_ids", "categories"}
OUTPUTS = ["vector", "logits", "refusal"]

Floats = npt.NDArray[np.float32]


class MiniRenderer:
    """Thread-safe. BundleError if this version renders the model's input differently from its training."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        manifest = bundle.manifest
        same_renderer(bundle, LAYOUT_DIGEST)
        batch_tokens = min(MAX_BATCH_TOKENS, CORE_BATCH_TOKENS * (threads or usable_cores()))
        self.info = EngineInfo(manifest.kind, manifest.model, manifest.languages or LANGUAGES, 1, "cpu", batch_tokens)
        self.input = EncoderInput.load(bundle.path("tokenizer.json"), manifest.max_tokens, manifest.overlap)

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        return self.input.tokenize(conversation, policy)

    def cost(self, window: Window) -> int:
        return len(window.ids)


class MiniEngine(MiniRenderer):
    """Thread-safe. Scores do not depend on the batch, whichever form the weights have."""

    ready = True

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        super().__init__(bundle, threads)
        graph = bundle.path("model.onnx")
        self._policy = bundle.policy
        self._own = frozenset(_words(bundle.policy))
        self._others = bundle.manifest.policies
        self._unseen = bundle.calibration.unseen
        opened = session(str(graph), threads)
        self._session: onnxruntime.InferenceSession | None = opened
        self._vectors: PolicyCache[str, Floats] = PolicyCache(VECTOR_BYTES, lambda text, row: len(text) + row.nbytes)
        shapes = {node.name: node.shape for node in opened.get_inputs()}
        if set(shapes) != INPUTS:
            raise BundleError(f"{graph}: takes {', '.join(shapes)}, not {', '.join(sorted(INPUTS))}; export it again")
        available = {node.name for node in opened.get_outputs()}
        self._outputs = [name for name in OUTPUTS[1:] if name in available]  # bundles of version 0.1 know no refusal
        width = shapes["categories"][1]
        if not isinstance(width, int):
            raise BundleError(f"{graph}: input `categories` has no fixed width; export it again")
        self._none: Floats = np.zeros((1, width), np.float32)

    @property
    def renderer(self) -> Renderer:
        return self

    def prepare(self, policy: Policy) -> None:
        self.category_vectors(policy)

    def warm(self) -> None:
        self.score(self.tokenize(Conversation.of("hello"), self._policy).windows)

    @cached_property
    def _trained(self) -> list[frozenset[str]]:
        """Of each policy that the guard was trained under, its own first, the words of its categories."""
        return [self._own, *(frozenset(_words(policies.load(name))) for name in self._others)]

    def _reading(self, policy: Policy) -> tuple[Floats, float]:
        """[categories]: what is added to the log-odds of each; and how many a policy may have until each more is as
        much noise as evidence: as many as one that the guard was trained under, and fewer of unseen ones (STRANGE),
        whose log-odds are less sure."""
        words = _words(policy)
        if self._own.issuperset(words):
            return np.zeros(len(words), np.float32), len(self._own)
        known = frozenset[str]().union(*self._trained)
        unseen = np.array([text not in known for text in words], np.float32)
        most = max(map(len, self._trained))
        return unseen * self._unseen, most - float(unseen.mean()) * max(0, most - STRANGE)

    def close(self) -> None:
        self._session = None
        self._vectors.clear()

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        by_policy: dict[str, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_policy[window.policy.digest].append(index)
        scores: dict[int, Score | EngineError] = {}
        for indices in by_policy.values():
            policy = windows[indices[0]].policy
            vectors, different = self.category_vectors(policy), _different(policy)
            added, read = self._reading(policy)
            for batch in padded_batches([self.cost(windows[i]) for i in indices], self.info.batch_tokens):
                chosen = [indices[position] for position in batch]
                rows = [(windows[i].ids, windows[i].segments) for i in chosen]
                logits, *refusals = (output.astype(np.float64) for output in self._run(rows, vectors, self._outputs))
                logits = logits + added
                verdicts = any_category(logits[:, different], read)
                for place, (index, either) in enumerate(zip(chosen, verdicts, strict=True)):
                    refusal = float(refusals[0][place]) if refusals else None
                    score = Score(float(either), tuple(map(float, logits[place])), refusal)
                    scores[index] = sound(score, windows[index])
        return [scores[index] for index in range(len(windows))]

    def category_vectors(self, policy: Policy) -> Floats:
        """[categories, width]: the embedding of each category's words."""
        return np.stack(self._vectors.get(_words(policy), self._embed))

    def _embed(self, texts: Sequence[str]) -> Sequence[Floats]:
        rows = [self.input.category_ids(text) for text in texts]
        vectors: Floats = np.empty((len(rows), self._none.shape[1]), np.float32)
        for batch in padded_batches([len(ids) for ids in rows], self.info.batch_tokens):
            (vectors[batch],) = self._run([(rows[i], (0,) * len(rows[i])) for i in batch], self._none, ["vector"])
        return [row.copy() for row in vectors]  # else each would keep all of them alive

    def _run(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], categories: Floats, outputs: Sequence[str]
    ) -> list[Floats]:
        if self._session is None:
            raise EngineError(CLOSED)
        longest = max(len(ids) for ids, _ in rows)
        ids = np.full((len(rows), longest), self.input.pad, np.int64)
        segments = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, (tokens, kinds) in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            segments[row, : len(kinds)] = kinds
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments, "categories": categories}
        results: list[Floats] = self._session.run(outputs, feed)
        return results


def any_category(logits: npt.NDArray[np.float64], trained: float) -> npt.NDArray[np.float64]:
    """[rows]: log-odds that a text violates any of the categories, from those of each [rows, categories].

    logsumexp, as in training. There it ran over `trained` categories, and each of n > trained others adds as much
    noise as evidence: so it is lowered by log(n / trained), though never below the likeliest category. Up to `trained`
    categories a smaller policy is never the stricter one.
    """
    surplus = max(0.0, math.log(logits.shape[1] / trained))
    either: npt.NDArray[np.float64] = np.maximum(logits.max(axis=1), np.logaddexp.reduce(logits, axis=1) - surplus)
    return either


def _words(policy: Policy) -> list[str]:
    return [category_text(category) for category in policy.categories]


def _different(policy: Policy) -> list[int]:
    """Where the categories of a policy stand that no earlier one repeats word by word."""
    first: dict[str, int] = {}
    for place, words in enumerate(_words(policy)):
        first.setdefault(words, place)
    return list(first.values())
