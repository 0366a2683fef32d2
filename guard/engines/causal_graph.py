"""The graph of a causal guard in ONNX Runtime, with plain lists of token ids as its interface.

Inputs: input_ids, position_ids int64 [batch, tokens]; attention_mask int64 [batch, past + tokens]; past_index
int64 [batch] (which row of the past each row goes on from); logit_index int64 [batch, read] (where to read); token_ids
int64 [wanted] (what to read: rows of the output layer); past.N.key, past.N.value float32 or float16 [kept, heads, past,
width]. Outputs: log_probs float32 [batch, read, wanted], normalised over the rows of the output layer; present.N.key,
present.N.value. Graphs of version 0.1 say `positions` for logit_index and have no past_index.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guard.engines.session import session
from guard.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime

Floats = npt.NDArray[np.float32]
Cache = list[npt.NDArray[Any]]  # key and value of each layer, [batch, heads, tokens, width]

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


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
