"""Reasons why rows are left out, as reports count them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\b\d[\d,]*\b")


def reason_kind(reason: str) -> str:
    """The reason with each number as N: reasons that differ by a column or a length alone are one."""
    return _NUMBER.sub("N", reason)
