"""guard.llm.retry: what is tried again, after which wait, and when it is given up."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import ConfigError
from guard.llm.retry import RetryPolicy, Transient, parse_retry_after, retrying

POLICY = RetryPolicy(attempts=6, first_s=0.5, longest_s=2.0, longest_retry_after_s=30.0)


def failing(*failures: Exception):
    """A function that raises these, one a call, then returns."""
    left = list(failures)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_transient_failures_are_retried_with_waits_that_double_up_to_a_bound():
    waits: list[float] = []
    assert retrying(POLICY, waits.append)(failing(*[Transient("busy")] * 5)) == "done"
    assert len(waits) == 5
    assert all(0 <= wait <= bound for wait, bound in zip(waits, (0.5, 1.0, 2.0, 2.0, 2.0), strict=True))


def test_the_last_failure_is_raised_after_so_many_attempts():
    waits: list[float] = []
    with pytest.raises(Transient, match="busy 6"):
        retrying(POLICY, waits.append)(failing(*[Transient(f"busy {number}") for number in range(1, 9)]))
    assert len(waits) == 5


def test_other_failures_are_raised_at_once():
    waits: list[float] = []
    with pytest.raises(ZeroDivisionError):
        retrying(POLICY, waits.append)(failing(ZeroDivisionError()))
    assert waits == []


def test_the_wait_that_the_server_asks_for_is_kept_unless_it_is_too_long():
    waits: list[float] = []
    assert retrying(POLICY, waits.append)(failing(Transient("busy", 30.0), Transient("busy", 7.5))) == "done"
    assert waits == [30.0, 7.5]
    with pytest.raises(Transient, match="busy"):
        retrying(POLICY, waits.append)(failing(Transient("busy", 30.1)))
    assert waits == [30.0, 7.5]


def test_sleep_may_stop_the_attempts():
    def stopped(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrying(POLICY, stopped)(failing(Transient("busy")))


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"first_s": -1.0}, {"longest_s": -1}, {"longest_retry_after_s": -1}])
def test_policies_that_cannot_be(bad):
    (name,) = bad
    with pytest.raises(ConfigError, match=rf"{name} must be >= \d \(got -?\d"):
        RetryPolicy(**bad)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("0.3", 0.3), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)
def test_retry_after_in_seconds_or_in_the_past(header, seconds):
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize("usegmt", [True, False])  # "GMT" and "-0000": a date without a zone is in UTC, too
def test_retry_after_as_a_date(usegmt):
    header = email.utils.formatdate(time.time() + 100, usegmt=usegmt)
    assert parse_retry_after(header) == pytest.approx(99.5, abs=1.5)


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1e3", "1,5", "inf", "٣", "9" * 4000, "Thu, 99 Jan 2026"])
def test_retry_after_that_makes_no_sense_is_none(header):
    assert parse_retry_after(header) is None


@given(st.text())
def test_no_header_breaks_the_parser(header):
    seconds = parse_retry_after(header)
    assert seconds is None or seconds >= 0
