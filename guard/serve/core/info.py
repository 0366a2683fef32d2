"""The description that a service gives of itself."""

from __future__ import annotations

from dataclasses import dataclass

from guard.moderator import GuardInfo
from guard.serve.limits import Limits


@dataclass(frozen=True, slots=True)
class ServiceInfo(GuardInfo):
    """What a service judges by under the caller's options, the version of its guard package, and its limits."""

    version: str
    limits: Limits
