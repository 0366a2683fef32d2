"""What the recipe `sft` is told. Nothing here imports torch, so that a mistake in a configuration is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from guard import schema
from guard.errors import ConfigError
from guard.policy import Detail
from guard.schema import NotNegative, Share
from guard.train.augment.augmentation import Augmentation
from guard.train.common.replay import Replay

Device = Literal["auto", "cuda", "cpu"]
# What a run that goes on may change. Of the files that a configuration names the contents count, not the places.
FREE = ("out", "base", "data", "columns", "policy", "patience", "precision", "checkpoint_steps", "judge_steps", "keep")
FREE_TRAINER = ("report_to", "run_name", "logging_dir", "save_total_limit", "dataloader_num_workers")
# With a constant learning rate and a cooldown a run may also be made longer, or end sooner.
STEADY, FREE_STEADY = "warmup_stable_decay", ("max_steps", "lr_scheduler_kwargs")


@dataclass(frozen=True)
class Config:
    """See training/configs/lora-1gpu.yaml and small.yaml for what each knob buys."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    base: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # how rows of your own are to be read, see docs/data.md
    foreign: Literal["error", "leave_out"] = "error"
    languages: tuple[str, ...] = ()  # of the rows that are read; empty: all
    detail: Detail = "full"
    max_tokens: PositiveInt = 4096
    overlap: NonNegativeInt = 256
    least_label_mass: Share = 0.5
    device: Device = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    processes: PositiveInt = 1
    batch_rows: PositiveInt = 16
    group_rows: PositiveInt | None = None
    batch_tokens: PositiveInt = 8192
    row_tokens: Annotated[int, Field(ge=128)] | None = None
    share_prefix: bool = True
    rules: Share = 0.0
    frozen_layers: NonNegativeInt = 0
    first_token_weight: NotNegative = 1.0
    checkpoint_steps: PositiveInt = 200
    judge_steps: PositiveInt | None = None
    dev_rows: NonNegativeInt = 1000
    patience: NonNegativeInt = 0
    keep: Literal["best", "last"] = "best"
    other_policies: tuple[str, ...] = ()
    other_policy: Share = 0.0
    replay: Replay = field(default_factory=Replay)
    qlora: bool = False
    seed: int = 7
    augmentation: Augmentation = field(default_factory=Augmentation)
    lora: Mapping[str, Any] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


def check(config: Config, where: str) -> None:
    """ConfigError where two keys contradict each other."""
    if config.qlora and config.lora is None:
        raise ConfigError(f"{where}: qlora trains an adapter on a base in 4 bits; give a section `lora`")
    if config.patience and not config.dev_rows:
        raise ConfigError(f"{where}: patience={config.patience} waits for a better AUPRC; give dev_rows, or patience=0")
    for key in ("activation_checkpointing", "gradient_checkpointing"):
        if config.share_prefix and config.trainer.get(key):
            raise ConfigError(
                f"{where}: trainer.{key} computes each layer twice and keeps no keys and values of a shared prefix; "
                "set share_prefix=false, or switch it off"
            )
    judged = config.judge_steps or config.checkpoint_steps
    if config.keep == "best" and config.dev_rows and config.checkpoint_steps % judged:
        raise ConfigError(
            f"{where}: checkpoint_steps={config.checkpoint_steps} must be a multiple of judge_steps={judged}, so that "
            "every checkpoint is judged; or set keep=last"
        )


def free_trainer(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of the trainer that a run that goes on may change."""
    return (*FREE_TRAINER, *(FREE_STEADY if options.get("lr_scheduler_type") == STEADY else ()))
