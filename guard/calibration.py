"""Calibration: from raw log-odds to probabilities, and the thresholds of each mode."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from guard import schema
from guard.conversation import Target
from guard.errors import BundleError, DocumentError
from guard.mode import MODES as MODES
from guard.mode import Mode as Mode
from guard.verdict import sigmoid

NEVER = math.nextafter(1, 2)  # the threshold that no probability reaches
Threshold = Annotated[float, Field(ge=0.0, le=NEVER)]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probabilities, rising: strict = dev FPR 5 % or twice that of balanced, balanced = best dev F1 or near,
    permissive = dev FPR 1 % (ADR 004).

    `at_fpr` are the thresholds at false-positive rates of dev by themselves, whatever the modes make of them; a rate
    below one in the number of dev's safe rows lies above all of them.
    """

    __pydantic_config__ = schema.STRICT

    strict: Threshold = 0.5
    balanced: Threshold = 0.5
    permissive: Threshold = 0.5
    at_fpr: Mapping[str, Threshold] = field(default_factory=dict)

    def of(self, mode: Mode) -> float:
        return float(getattr(self, mode))


@dataclass(frozen=True, slots=True)
class TargetCalibration:
    """p = sigmoid(slope · log-odds + bias) (Platt 1999), for the verdict and, with the same scale, each category."""

    __pydantic_config__ = schema.STRICT

    slope: schema.Positive = 1.0
    bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    thresholds: Thresholds = Thresholds()
    categories: Mapping[str, Thresholds] = field(default_factory=dict)

    def probability(self, z: float) -> float:
        return sigmoid(self.slope * z + self.bias)


@dataclass(frozen=True, slots=True)
class Calibration:
    """One calibration for each target, because prompts and responses are scored on different scales.

    unseen: what is added to the log-odds of categories that the guard was not trained for, about which it is timid:
    fitted on rules that were kept out of its training (ADR 015).
    """

    __pydantic_config__ = schema.STRICT

    prompt: TargetCalibration = TargetCalibration()
    response: TargetCalibration = TargetCalibration()
    unseen: Annotated[float, Field(allow_inf_nan=False)] = 0.0

    def of(self, target: Target) -> TargetCalibration:
        return self.prompt if target is Target.PROMPT else self.response


def read(path: Path) -> Calibration:
    """The calibration at `path`, BundleError if it breaks its schema."""
    try:
        return schema.load(path, Calibration)
    except DocumentError as problem:
        reason = "; ".join(str(problem).splitlines())
        raise BundleError(f"{path}: not a calibration: {reason}; export the bundle again") from None


def write(calibration: Calibration, path: Path) -> None:
    path.write_text(json.dumps(dataclasses.asdict(calibration), indent=2, sort_keys=True) + "\n", encoding="utf-8")
