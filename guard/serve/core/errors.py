"""Errors as callers may see them: only messages that guard wrote for them."""

from __future__ import annotations

import logging
import uuid

from guard.errors import (
    Closed,
    DeadlineExceeded,
    EngineError,
    GuardError,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    PolicyError,
    ReloadFailed,
    Unauthenticated,
)

log = logging.getLogger("guard.serve")


class InternalError(EngineError):
    """An internal error of the service; its id is in the log."""


_PUBLIC = (
    Closed,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    Overloaded,
    PermissionDenied,
    PolicyError,
    ReloadFailed,
    Unauthenticated,
)


def public(error: BaseException) -> GuardError:
    """The error as the caller may see it.

    Any other error becomes an InternalError with an id. The log has the id and the type of the error, never its text,
    which may contain user text.
    """
    if isinstance(error, _PUBLIC):
        return error
    incident = uuid.uuid4().hex
    log.error("request failed with id %s: %s", incident, type(error).__name__)
    return InternalError(f"internal error {incident}; see the server's log")
