"""Errors as callers may see them: only messages that guard wrote for them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable
from typing import TypeVar

from guard.errors import (
    Closed,
    DeadlineExceeded,
    EngineDown,
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
T = TypeVar("T")


class InternalError(EngineError):
    """An internal error of the service; its id is in the log."""


class Unjudged(InvalidInput):
    """A verdict INCOMPLETE where there is no word for it: failing must not pass for safe."""

    def __init__(self, unjudged: tuple[str, ...] = ()) -> None:
        what = f": {', '.join(unjudged)[:500]}" if unjudged else ", for example a script it does not know"
        super().__init__(f"a part of the content cannot be judged{what}")


_PUBLIC = (
    Closed,
    DeadlineExceeded,
    EngineDown,
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


async def publicly(answering: Awaitable[T]) -> T:
    """The answer; raises errors as the caller may see them, and the cancellation of the caller's own task."""
    try:
        return await answering
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # the caller is gone
            raise
        raise public(error) from None  # from inside, where it would leave the caller without an answer
    except Exception as error:  # noqa: BLE001 - passed on to the caller
        raise public(error) from None
