"""What callers are told of errors: the messages that guard itself wrote for them, and no others."""

from __future__ import annotations

import logging
import uuid

from guard.errors import Closed, DeadlineExceeded, EngineError, GuardError, InvalidInput, Overloaded, PolicyError

log = logging.getLogger("guard.serve")


class InternalError(EngineError):
    """An error of the service's own; its id is in the log."""


_PUBLIC = (Closed, DeadlineExceeded, InternalError, InvalidInput, Overloaded, PolicyError)


def public(error: BaseException) -> GuardError:
    """The error as the caller may see it.

    Any other than those written for callers becomes an InternalError with an id. The log names the id and the kind of
    the error, never its text, which may repeat a user's words.
    """
    if isinstance(error, _PUBLIC):
        return error
    incident = uuid.uuid4().hex
    log.error("request failed with id %s: %s", incident, type(error).__name__)
    return InternalError(f"internal error {incident}; the server's log names its kind")
