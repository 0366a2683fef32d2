"""What a server's settings name: the moderator that it opens, and the files that it needs besides."""

from __future__ import annotations

import dataclasses
import logging

from guard import policy as policies
from guard.bundle import open_bundle
from guard.moderator import Moderator, open_moderator
from guard.serve.config import Settings
from guard.serve.core.keys import Keys
from guard.serve.tls import Certificates

log = logging.getLogger("guard.serve")
RELOADED = {"model", "policy", "mode", "threads"}  # what open_served uses


def open_served(settings: Settings) -> Moderator:
    """The moderator that the settings choose. Raises BundleError or PolicyError."""
    return open_moderator(settings.model, settings.policy, settings.mode, settings.threads)


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
    if settings.model != "fake":
        open_bundle(settings.model)
    if settings.policy is not None:
        policies.load(settings.policy)
    if settings.api_keys is not None:
        Keys(settings.api_keys)
    if settings.tls.certificate is not None:
        Certificates(settings.tls)
