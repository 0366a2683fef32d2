"""What a server's settings name: the moderator that it opens, and the files that it needs besides."""

from __future__ import annotations

import dataclasses
import logging

from guard import policy as policies
from guard.bundle import open_bundle
from guard.engines.session import usable_cores
from guard.errors import ConfigError, nearest
from guard.moderator import Moderator, open_moderator
from guard.policy import Policy
from guard.serve.config import Settings
from guard.serve.core.keys import Keys
from guard.serve.tls import Certificates

log = logging.getLogger("guard.serve")
RELOADED = {"model", "policy", "mode", "threads", "workers", "monitor"}  # what open_served uses


def open_served(settings: Settings) -> Moderator:
    """The moderator that the settings choose, whose engine scores in processes of its own.

    Raises BundleError, PolicyError or ConfigError.
    """
    threads = settings.threads or max(1, usable_cores() // settings.workers)
    moderator = open_moderator(settings.model, settings.policy, settings.mode, threads, settings.workers)
    try:
        return dataclasses.replace(moderator, monitor=_monitor(settings, moderator.policy))
    except ConfigError:
        moderator.close()
        raise


def _monitor(settings: Settings, own: Policy) -> dict[str, frozenset[str] | None]:
    """What is watched in each policy. Raises ConfigError for a policy or a category that does not exist."""
    watched: dict[str, frozenset[str] | None] = {}
    shipped = policies.shipped()
    for name, codes in settings.monitor.items():
        if name != own.id and name not in shipped:
            near = nearest(name, (own.id, *shipped))
            hint = f"did you mean {near}? Known" if near else "known"
            raise ConfigError(f"monitor: unknown policy {name}; {hint}: {', '.join((own.id, *shipped))}")
        if codes == "all":
            watched[name] = None
            continue
        policy = own if name == own.id else policies.load(name)
        if unknown := [code for code in codes if code not in policy.codes]:
            raise ConfigError(f"monitor: {policies.unknown_codes(policy, unknown)}")
        watched[name] = frozenset(codes)
    return watched


def warn_of_restart(running: Settings, fresh: Settings) -> None:
    """Logs which settings have changed in the file, and take effect only after a restart."""
    changed = [
        each.name
        for each in dataclasses.fields(Settings)
        if each.name not in RELOADED and getattr(running, each.name) != getattr(fresh, each.name)
    ]
    if changed:
        log.warning("changed settings that take effect after a restart: %s", ", ".join(changed))


def check(settings: Settings) -> None:
    """Opens every file that the settings name, but loads no model and listens nowhere.

    Raises BundleError, PolicyError or ConfigError.
    """
    own = policies.load("mlcommons") if settings.model == "fake" else open_bundle(settings.model).policy
    _monitor(settings, own if settings.policy is None else policies.load(settings.policy))
    if settings.api_keys is not None:
        Keys(settings.api_keys)
    if settings.audit.path is not None and not settings.audit.path.parent.is_dir():
        raise ConfigError(f"audit.path {settings.audit.path}: no such folder")
    if settings.tls.certificate is not None:
        Certificates(settings.tls)
