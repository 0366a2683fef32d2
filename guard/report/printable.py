"""Text of users on a terminal, to which it must not send control sequences."""

from __future__ import annotations


def printable(text: str, at_most: int) -> str:
    """The first `at_most` characters of a text, with unprintable and control characters escaped for a terminal.

    Line breaks stay. The number of omitted characters is appended.
    """
    omitted = len(text) - at_most
    shown = "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text[:at_most])
    return shown if omitted <= 0 else f"{shown} … {omitted:,} characters left out"


def _escaped(char: str) -> str:
    point = ord(char)
    names = {"\t": "\\t", "\r": "\\r"}
    return names.get(char) or (
        f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
    )
