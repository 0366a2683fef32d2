"""Guards that the benchmarks measure: a bundle, or the folder of a training run that has not been exported yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from guard import policy
from guard.bundle import MANIFEST
from guard.conversation import Conversation
from guard.digest import file_digest
from guard.engines.base import EngineInfo, padded_batches
from guard.engines.mini import any_category
from guard.errors import EngineError
from guard.moderator import Moderator, open_moderator
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput, category_text
from guard.prompts.window import Score, TokenizedConversation, Window

MAX_BATCH_TOKENS = 4096


class RunEngine:
    """The encoder of a run's folder in torch, read and scored as its bundle would be."""

    def __init__(self, run: Path, threads: int | None = None) -> None:
        import torch

        from guard.train.encoder import model
        from guard.train.export import run_record

        settings = run_record(run)["config"]
        if threads:
            torch.set_num_threads(threads)
        self._model = model.load(run).eval()
        self.input = EncoderInput.load(run / "tokenizer.json", settings["max_tokens"], settings["overlap"])
        self._trained = len(policy.load(run / "policy.yaml").categories)
        digest = file_digest(run / "model.safetensors")
        self.info = EngineInfo("mini", digest, (), 1, "cpu", MAX_BATCH_TOKENS)

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        return self.input.tokenize(conversation, policy)

    def prepare(self, policy: Policy) -> None:
        """Its categories are embedded with each call."""

    def cost(self, window: Window) -> int:
        return len(window.ids)

    def warm(self) -> None:
        """Measured calls warm it."""

    def close(self) -> None:
        """It lives as long as the benchmark."""

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        import torch

        from guard.train.encoder.model import padded

        by_policy: dict[str, list[int]] = {}
        for index, window in enumerate(windows):
            by_policy.setdefault(window.policy.digest, []).append(index)
        scores: dict[int, Score | EngineError] = {}
        with torch.inference_mode():
            for indices in by_policy.values():
                categories = windows[indices[0]].policy.categories
                words = [self.input.category_ids(category_text(category)) for category in categories]
                vectors = self._model.embed(**padded([(ids, (0,) * len(ids)) for ids in words], self.input.pad))
                for batch in padded_batches([len(windows[index].ids) for index in indices], MAX_BATCH_TOKENS):
                    chosen = [indices[place] for place in batch]
                    text = padded([(windows[index].ids, windows[index].segments) for index in chosen], self.input.pad)
                    logits = self._model(**text, categories=vectors)[1].double()
                    either = any_category(logits.numpy(), self._trained)
                    for index, row, whole in zip(chosen, logits.tolist(), either.tolist(), strict=True):
                        scores[index] = Score(whole, tuple(row))
        return [scores[index] for index in range(len(windows))]


def open_guard(folder: Path | None, threads: int | None = None) -> Moderator:
    """The moderator of a bundle (None: the shipped guard) or of a run, which has no calibration: thresholds are 0.5."""
    if folder is None or (folder / MANIFEST).is_file() or not (folder / "run.json").is_file():
        return open_moderator(folder, threads=threads)
    return Moderator(RunEngine(folder, threads), policy.load(folder / "policy.yaml"))


def core_count() -> int:
    return len(os.sched_getaffinity(0))
