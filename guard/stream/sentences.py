"""Where sentences end in a text that is still being written."""

from __future__ import annotations

import re

LEAST = 24  # characters: shorter ones, such as the "1." of a list, are part of the next
# A full stop ends a sentence once a space follows it, so that "3.5" and a name that goes on do not; a line break and
# the full stops of Chinese and Japanese do at once. Of a run of full stops only the last one is tried, and what closes
# a sentence is not given back, so that no text takes longer than its length.
_CLOSING = r"[\"'”’)\]*_]*+"
_END = re.compile(rf"(?:[.!?…]{_CLOSING}(?=\s)|[。！？][”’」』）]*+|\n)\s*+")
_OPEN = re.compile(rf"[.!?…]{_CLOSING}\Z")
_SPACE = re.compile(r"\s")


class Ends:
    """Follows a text from its character `start` on as it grows, looking at each character once.

    `last`: the last place at which a sentence ends, the space behind it included; None while there is none.
    """

    def __init__(self, start: int) -> None:
        self.last: int | None = None
        self._start = self._at = start
        self._open = ""  # a full stop for an end that the text so far leaves open

    def push(self, text: str) -> None:
        """Takes in how the text goes on."""
        scanned = self._open + text
        offset = self._at - len(self._open)
        for end in _END.finditer(scanned):
            if offset + end.end() - self._start >= LEAST:
                self.last = offset + end.end()
        self._at += len(text)
        self._open = "." if _OPEN.search(scanned) else ""


def ends(text: str) -> list[int]:
    """The places at which the sentences of a whole text end; the last is the text's own end."""
    places: list[int] = []
    start = 0
    for end in _END.finditer(text):
        if end.end() - start >= LEAST:
            start = end.end()
            places.append(start)
    if text[start:].strip() or not places:
        places.append(len(text))
    return places


def last_space(text: str, start: int) -> int:
    """The place after the last space that follows `start`, so that no word is cut; the text's end if there is none."""
    for index in range(len(text) - 1, start, -1):
        if text[index].isspace():
            return index + 1
    return len(text)


def first_space(text: str, start: int, stop: int) -> int:
    """The place after the first space from `start` on, at most `stop`; `start` if there is none before."""
    space = _SPACE.search(text, start, stop)
    return space.end() if space else start
