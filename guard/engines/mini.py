"""The embedded guard: a small encoder in ONNX Runtime, with the policy's category vectors as an input of the graph.

Graph inputs: input_ids, attention_mask, token_type_ids int64 [batch, tokens]; categories float32 [categories, width].
Outputs: vector float32 [batch, width], the text's embedding; logits float32 [batch, categories]; refusal float32
[batch], the log-odds that a response refuses.
A category's vector is the `vector` of its own words, so a policy costs one small batch, once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guard.bundle import Bundle
from guard.conversation import Conversation
from guard.engines.base import Reading, Score, Window, padded_batches
from guard.engines.session import session
from guard.errors import BundleError
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput, category_text

# On a CPU a batch of 8 × 128 tokens already uses the cores fully; larger ones only delay the first answer.
MAX_BATCH_TOKENS = 2048
POLICIES_KEPT = 256
INPUTS = {"input_ids", "attention_mask", "token_type_ids", "categories"}
OUTPUTS = ["vector", "logits", "refusal"]

Floats = npt.NDArray[np.float32]


class MiniEngine:
    """Thread-safe. Scores are those of fp32 arithmetic and do not depend on the batch."""

    kind = "mini"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        manifest = bundle.manifest
        self.digest = manifest.model
        self.input = EncoderInput.load(bundle.path("tokenizer.json"), manifest.max_tokens, manifest.overlap)
        graph = bundle.path("model.onnx")
        self._session = session(str(graph), threads)
        self._policies: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()
        shapes = {node.name: node.shape for node in self._session.get_inputs()}
        if set(shapes) != INPUTS:
            raise BundleError(f"{graph}: takes {', '.join(shapes)}, not {', '.join(sorted(INPUTS))}; export it again")
        given = {node.name for node in self._session.get_outputs()}
        self._outputs = [name for name in OUTPUTS[1:] if name in given]  # bundles of version 0.1 know no refusal
        width = shapes["categories"][1]
        if not isinstance(width, int):
            raise BundleError(f"{graph}: input `categories` has no fixed width; export it again")
        self._none: Floats = np.zeros((1, width), np.float32)

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        return self.input.read(conversation, policy)

    def score(self, windows: Sequence[Window]) -> list[Score]:
        by_policy: dict[str, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            by_policy[window.policy.digest].append(index)
        scores: list[Score | None] = [None] * len(windows)
        for indices in by_policy.values():
            vectors = self.category_vectors(windows[indices[0]].policy)
            for batch in padded_batches([len(windows[i].ids) for i in indices], MAX_BATCH_TOKENS):
                chosen = [indices[position] for position in batch]
                rows = [(windows[i].ids, windows[i].segments) for i in chosen]
                logits, *refusals = (found.astype(np.float64) for found in self._run(rows, vectors, self._outputs))
                for place, (index, either) in enumerate(zip(chosen, np.logaddexp.reduce(logits, axis=1), strict=True)):
                    refusal = float(refusals[0][place]) if refusals else None
                    scores[index] = Score(float(either), tuple(map(float, logits[place])), refusal)
        return [score for score in scores if score is not None]

    def category_vectors(self, policy: Policy) -> Floats:
        """[categories, width]: the embedding of each category's words, kept for the policies used last."""
        with self._lock:
            if policy.digest in self._policies:
                self._policies.move_to_end(policy.digest)
                return self._policies[policy.digest]
        texts = [self.input.category_ids(category_text(category)) for category in policy.categories]
        vectors: Floats = np.empty((len(texts), self._none.shape[1]), np.float32)
        for batch in padded_batches([len(ids) for ids in texts], MAX_BATCH_TOKENS):
            (vectors[batch],) = self._run([(texts[i], (0,) * len(texts[i])) for i in batch], self._none, ["vector"])
        with self._lock:
            self._policies[policy.digest] = vectors
            if len(self._policies) > POLICIES_KEPT:
                self._policies.popitem(last=False)
        return vectors

    def _run(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], categories: Floats, outputs: Sequence[str]
    ) -> list[Floats]:
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
