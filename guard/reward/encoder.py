"""Bradley-Terry on a small encoder: a reward model that trains and scores on a CPU, without a language model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig

from guard import policy
from guard.conversation import Conversation, Message
from guard.errors import BundleError
from guard.prompts.encoder import EncoderInput
from guard.prompts.window import Window
from guard.reward.score import Asked, Compared, Reading
from guard.train.encoder import model as encoder

HIDDEN = 256
OVERLAP = 16
BATCH_TOKENS = 8192
_WEIGHTS, _CONFIG, _TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_POLICY = "minimal"  # windows name one; nothing of it is read


class RewardEncoder(nn.Module):
    """The means of all token states and of the answer's alone → one number [batch]."""

    def __init__(self, config: PreTrainedConfig, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = encoder.ConditionedEncoder(config).encoder
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Sequential(nn.Linear(2 * config.hidden_size, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        states = self.body(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state.float()
        answer = attention_mask * (1 - token_type_ids)
        features = torch.cat([_mean(states, mask) for mask in (attention_mask, answer)], -1)
        scores: Tensor = self.score(self.dropout(features)).squeeze(-1)
        return scores


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """[batch, width]: the mean of the chosen states, scaled to unit mean square."""
    weight = mask[..., None].float()
    mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
    return mean * torch.rsqrt(mean.square().mean(-1, keepdim=True) + 1e-6)


@dataclass(frozen=True, eq=False)
class EncoderReader:
    """Scores by windows; the score of an answer is the mean over its windows."""

    model: RewardEncoder
    reader: EncoderInput

    @property
    def pairwise(self) -> bool:
        return False

    @cached_property
    def _policy(self) -> policy.Policy:
        return policy.load(_POLICY)

    def windows(self, asked: Asked) -> tuple[tuple[Window, ...], float]:
        """The windows of a prompt and its answer, and the share of their tokens that was seen."""
        messages, answer = asked
        found = self.reader.tokenize(Conversation((*messages, Message("assistant", answer))), self._policy)
        return found.windows, found.tokens_seen / found.tokens_total if found.tokens_total else 1.0

    def singles(self, asked: Sequence[Asked]) -> list[Reading]:
        cut = [self.windows(each) for each in asked]
        rows = [(window.ids, window.segments) for windows, _ in cut for window in windows]
        scores = torch.empty(len(rows))
        with torch.no_grad():
            for batch in batches([len(ids) for ids, _ in rows]):
                scores[batch] = self.model(**encoder.padded([rows[index] for index in batch], self.reader.pad))
        found, at = [], 0
        for windows, coverage in cut:
            found.append(Reading(float(scores[at : at + len(windows)].mean()), 1.0, coverage))
            at += len(windows)
        return found

    def pairs(self, asked: Sequence[Compared]) -> list[tuple[Reading, Reading]]:
        raise NotImplementedError("a scalar model has no order of answers")

    def seeded(self, seed: int) -> EncoderReader:
        return self


def batches(lengths: Sequence[int], tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of rows of near lengths, at most `tokens` a batch, padding counted."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def from_pretrained(folder: Path, dropout: float) -> RewardEncoder:
    """The body of a plain encoder or of an encoder guard, with a new head."""
    trained = any((folder / name).exists() for name in ("guard.json", "run.json"))
    source = encoder.load(folder) if trained else encoder.from_pretrained(folder)
    model = RewardEncoder(source.encoder.config, dropout)
    model.body.load_state_dict(source.encoder.state_dict())
    return model


def save(model: RewardEncoder, folder: Path) -> None:
    """Writes config.json and model.safetensors, which `open_encoder` reads."""
    config = model.body.config.to_diff_dict() | {"model_type": model.body.config.model_type}
    for key in ("architectures", "_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(key, None)
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _WEIGHTS).chmod(0o644)


def open_encoder(folder: Path, max_tokens: int) -> EncoderReader:
    """BundleError if the folder's weights are not those of such a model."""
    try:
        model = RewardEncoder(AutoConfig.for_model(**json.loads((folder / _CONFIG).read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, RuntimeError, ValueError) as problem:
        raise BundleError(f"{folder}: not an encoder's reward model ({type(problem).__name__}); train again") from None
    return EncoderReader(model.eval(), EncoderInput.load(folder / _TOKENIZER, max_tokens, OVERLAP))
