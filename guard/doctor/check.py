"""The result of one check: its name, status, detail, and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """`detail` and `advice` never contain user text."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def ok(name: str, detail: str) -> Check:
    return Check(name, "ok", detail)


def warn(name: str, detail: str, advice: str) -> Check:
    return Check(name, "warn", detail, advice)


def fail(name: str, detail: str, advice: str = "") -> Check:
    """A failed check; `advice` may be empty only where `detail` is an error message that says what to do."""
    return Check(name, "fail", detail, advice)


def failed(checks: Iterable[Check]) -> int:
    return sum(check.status == "fail" for check in checks)
