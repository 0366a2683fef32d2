"""Moderation of a reply while it is written: one hold-back machine for the RPC, the proxy and the chat wrapper."""

from guard.stream.drive import Machine, drive, drive_async
from guard.stream.holdback import Check, HoldBack, Progress
from guard.stream.options import RELEASES, Release, StreamOptions

__all__ = [
    "RELEASES",
    "Check",
    "HoldBack",
    "Machine",
    "Progress",
    "Release",
    "StreamOptions",
    "drive",
    "drive_async",
]
