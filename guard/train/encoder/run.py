"""What runs that train the encoder have in common: their options, and how they begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from guard import policy
from guard.bundle import LEAST_TOKENS
from guard.errors import ConfigError
from guard.policy import Policy
from guard.prompts.encoder import EncoderInput
from guard.schema import NotNegative, Positive, Share
from guard.train.common.config import LoopConfig
from guard.train.common.identity import claim
from guard.train.encoder import model as encoder
from guard.train.encoder.tokenizer import encoder_tokenizer


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(LoopConfig):
    """See training/configs/encoder.yaml for what each knob buys."""

    base: str
    epochs: Positive = 2.0
    max_tokens: Annotated[int, Field(ge=LEAST_TOKENS)] = 192  # control tokens included
    learning_rate: Positive = 1.2e-4
    head_learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    freeze_embeddings: bool = True
    category_weight: NotNegative = 0.2
    refusal_weight: NotNegative = 0.1
    partial_policy: Share = 0.4


def begin(
    config: EncoderConfig, rules: Policy, made_of: Mapping[str, Any]
) -> tuple[encoder.ConditionedEncoder, EncoderInput]:
    """The model of the base, a guard or a plain encoder with a new head, and the one renderer. Makes the run's folder
    with its policy and tokenizer. ConfigError if the base has fewer positions than a window has tokens, or the folder
    holds a run that is not `made_of` the same."""
    base, out = encoder.base_folder(config.base), Path(config.out)
    trained = any((base / name).exists() for name in ("guard.json", "run.json"))
    model = encoder.load(base) if trained else encoder.from_pretrained(base)
    if config.max_tokens > (most := model.encoder.config.max_position_embeddings):
        raise ConfigError(f"max_tokens={config.max_tokens}: {config.base} reads windows of at most {most} tokens")
    model.dropout.p = config.dropout
    # Words keep their pre-trained vectors, so that words unseen here stay where they were.
    model.encoder.embeddings.word_embeddings.requires_grad_(not config.freeze_embeddings)
    claim(out, made_of)
    encoder_tokenizer(base / "tokenizer.json", out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    return model, EncoderInput.load(out / "tokenizer.json", config.max_tokens, config.overlap)
