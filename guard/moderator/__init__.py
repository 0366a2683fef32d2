"""The moderator: policy + engine → verdicts."""

from guard.moderator.guard import Guard, GuardInfo
from guard.moderator.moderator import Moderator, open_moderator, thresholds

__all__ = ["Guard", "GuardInfo", "Moderator", "open_moderator", "thresholds"]
