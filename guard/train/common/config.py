"""The settings that all recipes with `guard.train.common.loop` share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from pydantic import NonNegativeInt, PositiveInt

from guard import schema
from guard.schema import NotNegative, Positive, Share
from guard.train.augment.augmentation import Augmentation

RESUMABLE = ("out", "threads", "checkpoint_steps")  # what a resumed run may change


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """See training/configs/encoder.yaml for the effect of each setting."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # a mapping file for your own rows, see docs/data.md
    epochs: Positive
    batch_tokens: PositiveInt = 4096
    batch_rows: PositiveInt = 64
    max_tokens: PositiveInt
    overlap: NonNegativeInt = 48
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_steps: NonNegativeInt = 200
    dropout: Share = 0.1
    partial_policy: Share
    label_smoothing: Share = 0.02
    checkpoint_steps: PositiveInt = 500
    seed: int = 7
    bf16: bool = True
    threads: PositiveInt | None = None
    source_weights: Mapping[str, NotNegative] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)


def settle(config: LoopConfig) -> None:
    """Sets torch's seed and number of threads."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
