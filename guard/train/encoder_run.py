"""What runs that train the encoder have in common: their options, and how they begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guard import policy, schema
from guard.data.augment.augmentation import Augmentation
from guard.encoder_input import EncoderInput
from guard.policy import Policy
from guard.train import encoder
from guard.train.tokenizer import encoder_tokenizer


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """See training/configs/encoder.yaml for what each knob buys."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    base: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # how rows of your own are to be read, see docs/data.md
    epochs: float = 2.0
    batch_tokens: int = 4096
    batch_rows: int = 64
    max_tokens: int = 192
    overlap: int = 48
    learning_rate: float = 1.2e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    dropout: float = 0.1
    freeze_embeddings: bool = True
    category_weight: float = 0.2
    refusal_weight: float = 0.1
    partial_policy: float = 0.4
    label_smoothing: float = 0.02
    checkpoint_steps: int = 500
    seed: int = 7
    bf16: bool = True
    threads: int | None = None
    source_weights: Mapping[str, float] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)


def begin(config: EncoderConfig, rules: Policy) -> tuple[encoder.ConditionedEncoder, EncoderInput]:
    """The model of the base, a guard or a plain encoder with a new head, and the one renderer. Makes the run's folder
    with its policy and tokenizer."""
    base, out = encoder.base_folder(config.base), Path(config.out)
    trained = any((base / name).exists() for name in ("guard.json", "run.json"))
    model = encoder.load(base) if trained else encoder.from_pretrained(base)
    model.dropout.p = config.dropout
    # Words keep their pre-trained vectors, so that words unseen here stay where they were.
    model.encoder.embeddings.word_embeddings.requires_grad_(not config.freeze_embeddings)
    out.mkdir(parents=True, exist_ok=True)
    encoder_tokenizer(base / "tokenizer.json", out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    return model, EncoderInput.load(out / "tokenizer.json", config.max_tokens, config.overlap)
