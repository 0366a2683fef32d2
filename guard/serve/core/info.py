"""What a service tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from guard.moderator import GuardInfo
from guard.serve.limits import Limits


@dataclass(frozen=True, slots=True)
class ServiceInfo(GuardInfo):
    """What a service judges by under the options of who asks, the version of its guard package, and what it accepts."""

    version: str
    limits: Limits
