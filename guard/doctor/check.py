"""One finding: what was looked at, how it stands, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """`found` and `advice` show no text but our own."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str = "") -> Check:
    """An error's own message says what to do; any other finding needs `advice`."""
    return Check(name, "fail", found, advice)


def failed(checks: Iterable[Check]) -> int:
    return sum(check.status == "fail" for check in checks)
