"""Every error that guard raises on purpose, as one tree.

GuardError
├── InvalidInput        a text, row or request that cannot be judged (caller's mistake)
│   └── TooLarge        ... because it exceeds a limit of the service
├── DocumentError       a YAML or JSON document that breaks its schema
│   ├── PolicyError     ... a policy
│   └── ConfigError     ... a training, data or service configuration
├── DataError           a data file, source or row that does not fit its description
├── BundleError         a bundle that is missing, damaged, or does not match this code
│   └── NoBundle        ... because the given path does not exist (caller's mistake)
├── VerdictError        generated text that is not a verdict of the grammar
├── EngineError         an engine that could not score (wrong template, short answer, dead session)
│   └── EngineDown      ... because its process has ended, and another is not ready yet
├── AssetError          a file that ships with the package is missing
├── MissingExtra        a package of an optional extra is not installed
├── OutputError         a command's standard output that cannot be written
└── ServiceError        the moderation service cannot accept or finish a call
    ├── Overloaded      its queue is full
    │   └── QuotaExceeded   ... or the caller's key has used what it may
    ├── Closed          it is shutting down, or the batcher has stopped
    ├── ReloadFailed    it could not load its model and policies again
    └── DeadlineExceeded    it had no answer in time

Messages say where, what was given, what is allowed and what to do. They never contain user text.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

DISTRIBUTION = "guard-service"


class GuardError(Exception):
    """Base of all errors that guard raises on purpose; the CLI prints it as one line."""


class InvalidInput(GuardError, ValueError):
    """A text, row or request that cannot be judged."""


class TooLarge(InvalidInput):
    """A request that exceeds a limit of the service; its parts may still be accepted."""


class DocumentError(GuardError, ValueError):
    """A YAML or JSON document that breaks its schema; all mistakes are gathered, one a line."""


class PolicyError(DocumentError):
    """A policy document that breaks its schema or its own rules."""


class UnknownPolicy(PolicyError):
    """A name that no known policy has."""


class ConfigError(DocumentError):
    """A configuration document or override that breaks its schema."""


class DataError(GuardError, ValueError):
    """A data file, source or row that does not fit its description."""


class BundleError(GuardError):
    """A bundle that is missing, damaged, or does not match this code."""


class NoBundle(BundleError):
    """The path that was given for a bundle does not exist."""


class VerdictError(GuardError, ValueError):
    """Generated text that is not a verdict of the grammar."""


class EngineError(GuardError, RuntimeError):
    """An engine that could not score."""


class EngineDown(EngineError):
    """An engine whose process has ended, and the next one is not ready yet: try again in a few seconds."""

    def __init__(
        self, message: str = "the engine's process has ended, and another is being started; try again in a few seconds"
    ) -> None:
        super().__init__(message)


class AssetError(GuardError, FileNotFoundError):
    """A file that ships with the package is missing."""


class MissingExtra(GuardError, ImportError):
    """A package of an optional extra is not installed."""


class OutputError(GuardError, OSError):
    """A command's standard output that cannot be written."""


class ServiceError(GuardError, RuntimeError):
    """The moderation service cannot accept or finish a call."""


class Overloaded(ServiceError):
    """The queue is full: try again after `retry_after_s` seconds or more."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Overloaded):
    """The caller's key may not use more now: try again after `retry_after_s` seconds or more."""


class Closed(ServiceError):
    """The service or batcher is shutting down or has stopped."""


class Unauthenticated(ServiceError):
    """The call has no valid API key."""


class PermissionDenied(ServiceError):
    """The call's API key does not allow it."""


class ReloadFailed(ServiceError):
    """A server could not load its model and policies again, and goes on with those that it had."""


class DeadlineExceeded(ServiceError):
    """The service had no answer in time."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to a misspelt one, ignoring case; None if none is close."""
    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.65)
    return folded[near[0]] if near else None


def need(module: str, extra: str) -> ModuleType:
    """The imported `module`, or MissingExtra with the command that installs `extra`.

    A module that is installed but broken raises its own error, which shows the cause.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtra(f"{module} is not installed; {install_hint(extra)}") from None


def check_installed(module: str, extra: str) -> None:
    """MissingExtra unless `module`, of no package, can be found; it is not imported, which may take seconds."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(f"{module} is not installed; {install_hint(extra)}")


def install_hint(extra: str | None = None) -> str:
    """How to install guard with an extra. It is on no package index, so a bare `guard-service[extra]` finds nothing."""
    what = f"'.[{extra}]'" if extra else "."
    return f"run in a checkout of guard: pip install -c constraints.txt {what}"
