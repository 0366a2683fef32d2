"""Modes: how eager a guard is to flag, by the thresholds that its calibration holds for each."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["strict", "balanced", "permissive"]
MODES: tuple[Mode, ...] = get_args(Mode)
