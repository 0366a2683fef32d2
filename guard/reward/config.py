"""The configuration of a reward model's training. Nothing here imports torch, so that mistakes show at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from guard import schema
from guard.errors import ConfigError
from guard.policy import Detail
from guard.reward.systems import System, system_of
from guard.schema import NotNegative, Positive, Share

FREE = ("out", "base", "data", "policy", "checkpoint_steps", "precision")  # what a resumed run may change


@dataclass(frozen=True)
class Config:
    """See training/configs/reward-*.yaml for the effect of each setting."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    system: str
    base: str
    data: str
    out: str
    policy: str | None = None
    detail: Detail = "full"
    split: str = "train"
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    margin: NotNegative = 1.0
    attribute: str | None = None
    attributes: tuple[str, ...] = ()
    attribute_weights: tuple[float, ...] = ()
    max_tokens: PositiveInt = 1024
    reply_tokens: NonNegativeInt = 128
    epochs: PositiveInt = 1
    judgements: PositiveInt = 8
    temperature: Positive = 1.0
    least_label_mass: Share = 0.5
    device: Literal["auto", "cuda", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    checkpoint_steps: PositiveInt = 200
    seed: int = 7
    lora: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def check(config: Config, where: str) -> System:
    """The system that is configured. ConfigError where keys contradict each other or another recipe trains it."""
    system = system_of(config.system, config.recipe)
    names = [stage.name for stage in system.stages]
    for name, options in config.stages.items():
        if not isinstance(epochs := options.get("epochs", 1), int) or isinstance(epochs, bool) or epochs < 1:
            raise ConfigError(f"{where}: stages.{name}.epochs must be a whole number >= 1")
    if strange := [name for name in config.stages if name not in names]:
        raise ConfigError(f"{where}: stages.{strange[0]}: {system.name} has the stages {', '.join(names)}")
    if system.guard != (config.policy is not None):
        told = "learns a guard's verdicts; give the policy that they are under" if system.guard else "takes no policy"
        raise ConfigError(f"{where}: {system.name} {told}")
    if system.rates_one and config.attributes:
        raise ConfigError(f"{where}: {system.name} learns one attribute; give attribute=NAME instead of attributes")
    if config.attribute_weights and len(config.attribute_weights) != len(config.attributes):
        raise ConfigError(
            f"{where}: attribute_weights has {len(config.attribute_weights)} entries for {len(config.attributes)} "
            "attributes"
        )
    return system
