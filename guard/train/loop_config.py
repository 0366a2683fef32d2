"""What all recipes that step through `guard.train.loop` are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from guard import schema
from guard.data.augment.augmentation import Augmentation

FREE = ("out", "threads", "checkpoint_steps")  # what a resumed run may change


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """See training/configs/encoder.yaml for what each knob buys."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # how rows of your own are to be read, see docs/data.md
    epochs: float
    batch_tokens: int = 4096
    batch_rows: int = 64
    max_tokens: int
    overlap: int = 48
    learning_rate: float
    weight_decay: float
    warmup_steps: int = 200
    dropout: float = 0.1
    partial_policy: float
    label_smoothing: float = 0.02
    checkpoint_steps: int = 500
    seed: int = 7
    bf16: bool = True
    threads: int | None = None
    source_weights: Mapping[str, float] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)


def settle(config: LoopConfig) -> None:
    """Seeds torch, and gives it the threads that it may use."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
