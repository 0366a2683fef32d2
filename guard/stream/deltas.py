"""Deltas of a reply, in text or in bytes, as whole code points."""

from __future__ import annotations

import codecs
import re

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH = re.compile("[\ud800-\udbff]\\Z")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Deltas:
    """Joins what deltas cut: the bytes of a code point, or the halves of a surrogate pair.

    What is no text (invalid UTF-8, a lone surrogate) becomes U+FFFD, as in messages.
    """

    def __init__(self) -> None:
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._half = ""

    def push(self, delta: str | bytes) -> str:
        """The text that is complete with this delta."""
        if isinstance(delta, bytes):
            return self._cut_half() + self._bytes.decode(delta)
        if not delta:
            return ""
        cut = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        text = self._half + delta
        half = _HIGH.search(text)
        self._half = half[0] if half else ""
        return cut + _joined(text[: len(text) - len(self._half)])

    def end(self) -> str:
        """What the last delta cut, which stays incomplete."""
        return self._cut_half() + self._bytes.decode(b"", final=True)

    def _cut_half(self) -> str:
        left, self._half = self._half, ""
        return REPLACEMENT * len(left)


def _joined(text: str) -> str:
    if text.isascii() or not _SURROGATE.search(text):
        return text
    pairs = _PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)
    return _SURROGATE.sub(REPLACEMENT, pairs)
