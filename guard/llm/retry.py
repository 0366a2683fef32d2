"""One retry policy for all network access: number of attempts, and backoff."""

from __future__ import annotations

import email.utils
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from guard.errors import ConfigError, need

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter: random waits below a bound that doubles from `first_s` to `longest_s`; or the
    server's Retry-After. A server that requests more than `longest_retry_after_s` is not retried.
    """

    attempts: int = 5  # the first one included
    first_s: float = 0.5
    longest_s: float = 60.0
    longest_retry_after_s: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts must be >= 1 (got {self.attempts})")
        for name in ("first_s", "longest_s", "longest_retry_after_s"):
            if (value := getattr(self, name)) < 0:
                raise ConfigError(f"{name} must be >= 0 (got {value})")

    def allows(self, wait_s: float | None) -> bool:
        """Whether to retry a server that requests this wait."""
        return wait_s is None or wait_s <= self.longest_retry_after_s


class Transient(Exception):
    """A transient failure. retry_after_s: the wait that the server requested."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def retrying(policy: RetryPolicy, sleep: Callable[[float], object]) -> Any:
    """A `tenacity.Retrying`: called with a function and its arguments, it retries while that raises Transient.

    Raises the error of the last attempt. sleep: called with the seconds before the next attempt; may raise to stop.
    """
    tenacity = need("tenacity", "data")
    backoff = tenacity.wait_random_exponential(policy.first_s, policy.longest_s)
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, Transient) and policy.allows(error.retry_after_s)
        ),
        wait=lambda state: state.outcome.exception().retry_after_s or backoff(state),
        before_sleep=lambda state: _log.info(
            "attempt %d of %d: %s; the next in %.1f s",
            state.attempt_number,
            policy.attempts,
            state.outcome.exception(),
            state.next_action.sleep,
        ),
        sleep=sleep,
        reraise=True,
    )


def parse_retry_after(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number of them or an HTTP date (RFC 9110, 10.2.3).

    None where there is none or it is invalid; 0 for a date in the past.
    """
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", header.strip()):
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (aware - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
