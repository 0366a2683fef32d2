"""Clients of the moderation service, and the one way to open a guard, local or remote.

An error is not a verdict. Callers that must decide anyway should fail closed: `is_blocked(answer)` is true for
everything except a verdict of SAFE.
"""

from __future__ import annotations

from pathlib import Path

from guard import policy as policies
from guard.calibration import Mode
from guard.errors import ConfigError
from guard.moderator import Guard, open_moderator
from guard.serve.client.fail_open import is_blocked
from guard.serve.core.origin import Priority

__all__ = ["is_blocked", "open_guard"]


def open_guard(
    model: str | Path | None = None,
    server: str | None = None,
    policy: str | Path | None = None,
    mode: Mode | None = None,
    threads: int | None = None,
    priority: Priority = "interactive",
) -> Guard:
    """The guard of a bundle in this process, or that of the service at `server` (host:port). Close it after use.

    model: a bundle folder; None: the shipped guard; `fake`: no model at all. policy: a name or a file; None: the
    bundle's or the server's own. A server resolves names among its own policies; a file is sent to it.
    mode: None for `balanced`, or the server's own. threads: of the model; None: all cores of this process.
    priority: of the calls to a server, `batch` for work that nobody waits for.

    A server is first contacted when its `info` or a verdict is needed. Raises BundleError, PolicyError, or ConfigError
    if `server` is combined with `model` or `threads`.
    """
    if server is None:
        return open_moderator(model, policy, mode or "balanced", threads)
    if model is not None or threads is not None:
        raise ConfigError("a server has its own model and threads; give either `server`, or `model` and `threads`")
    from guard.serve.client.blocking import GuardClient  # a guard in this process needs no gRPC

    sent = policy if policy is None or policies.is_name(policy) else policies.load(policy)
    return GuardClient(server, policy=sent, mode=mode, priority=priority)
