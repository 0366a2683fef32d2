"""HTTP statuses of errors: one table for all wire formats."""

from __future__ import annotations

from collections.abc import Mapping

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
    TooLarge,
    Unauthenticated,
    UnknownPolicy,
)
from guard.serve.core.errors import Unjudged

# The first kind that fits counts.
_TABLE: Mapping[type[GuardError], int] = {
    Unauthenticated: 401,
    PermissionDenied: 403,
    Overloaded: 429,
    Closed: 503,
    DeadlineExceeded: 504,
    UnknownPolicy: 404,
    PolicyError: 400,
    TooLarge: 413,
    Unjudged: 422,
    InvalidInput: 400,
    EngineDown: 503,
    EngineError: 500,
}


def status(error: GuardError, statuses: Mapping[type[GuardError], int]) -> int:
    """The status of a public error (serve.core.errors); `statuses` are those of the format itself."""
    for table in (statuses, _TABLE):
        for kind, number in table.items():
            if isinstance(error, kind):
                return number
    return 500


def retry_after(error: GuardError) -> str | None:
    """The seconds of a Retry-After header, where it may help to try again."""
    if isinstance(error, Overloaded):
        return f"{max(1, round(error.retry_after_s))}"
    return "1" if isinstance(error, Closed | EngineDown) else None
