"""guard: a policy-driven safety guard. Importing it loads no model code; names are loaded when first used."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# ONNX Runtime 1.31 would otherwise look up an event host and write a device id into the home folder of whoever runs us.
# It reads the variable when it is imported, and every module of ours is imported after this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from guard.conversation import Conversation, Message
    from guard.errors import GuardError
    from guard.moderator import Moderator, open_moderator
    from guard.policy import Category, Policy
    from guard.serve.client import open_guard
    from guard.serve.client.asynchronous import AsyncGuardClient
    from guard.serve.client.blocking import GuardClient
    from guard.serve.core.candidate import Candidate
    from guard.verdict import Outcome, Verdict

_HOME = {
    "AsyncGuardClient": "guard.serve.client.asynchronous",
    "Candidate": "guard.serve.core.candidate",
    "Category": "guard.policy",
    "Conversation": "guard.conversation",
    "GuardClient": "guard.serve.client.blocking",
    "GuardError": "guard.errors",
    "Message": "guard.conversation",
    "Moderator": "guard.moderator",
    "Outcome": "guard.verdict",
    "Policy": "guard.policy",
    "Verdict": "guard.verdict",
    "open_guard": "guard.serve.client",
    "open_moderator": "guard.moderator",
}
__all__ = [
    "AsyncGuardClient",
    "Candidate",
    "Category",
    "Conversation",
    "GuardClient",
    "GuardError",
    "Message",
    "Moderator",
    "Outcome",
    "Policy",
    "Verdict",
    "open_guard",
    "open_moderator",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'guard' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
