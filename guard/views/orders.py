"""Letters in another order: rail fences, columns, every second letter, first letters of words or lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guard.views.english import foreign, likeness
from guard.views.segmentation import wordy

_LINE_START = re.compile(r"^[^\w\n]*([A-Za-z])", re.MULTILINE)
_LEAST, _LONGEST = 16, 4000  # characters of such a text
_RAILS = (2, 3, 4, 5)
_FEWEST_LINES, _FEWEST_WORDS = 10, 14  # lines and words whose first letters may be a text
_SPREAD = 4  # characters to each such letter, at least
_ACROSTIC = 0.5  # likeness to English that such letters have


def collected(text: str) -> Iterator[tuple[int, int, str]]:
    """The whole text, if its words stand in columns or in the first letters of others."""
    plain = _downwards(text) or _firsts(text)
    if plain is not None:
        yield 0, len(text), plain


def reordered(text: str) -> str | None:
    """A text whose letters are in disorder in their right order; None if that is none of these."""
    stripped = text.strip()
    if not _LEAST <= len(stripped) <= _LONGEST or foreign(stripped):
        return None
    return next(filter(wordy, _orders(stripped)), None)


def _downwards(text: str) -> str | None:
    """Words of which each is a column, a letter to a line and a space between columns."""
    lines = text.split("\n")
    if len(lines) < 3 or any(line[1::2].strip() for line in lines):
        return None
    width = max(map(len, lines))
    rows = [line.ljust(width)[::2] for line in lines]
    plain = " ".join("".join(column).strip() for column in zip(*rows, strict=True))
    return plain if wordy(plain) else None


def _firsts(text: str) -> str | None:
    """The first letters of all lines but perhaps the first, or of all words."""
    of_lines = _LINE_START.findall(text) if text.count("\n") >= _FEWEST_LINES - 1 else []
    of_words = [word[0] for word in text.split() if word[0].isalpha() and word[0].isascii()]
    for first, fewest in ((of_lines, _FEWEST_LINES), (of_words, _FEWEST_WORDS)):
        letters = "".join(first).lower()
        spread = len(text) >= _SPREAD * len(letters)  # else they are letters with spaces between
        if spread and len(letters) >= fewest and likeness(letters) >= _ACROSTIC:
            for some in (letters, letters[1:]):  # a line may say what to do
                if wordy(some):
                    return some
    return None


def _orders(text: str) -> Iterator[str]:
    yield text[::2]
    yield text[1::2]
    yield text[::3]
    for count in _RAILS:
        yield _unrailed(text, count)
    lines = text.split("\n")
    if len(lines) > 2 and len({len(line) for line in lines}) < 3:
        width = max(map(len, lines))
        yield "".join("".join(column) for column in zip(*(line.ljust(width) for line in lines), strict=True))


def _unrailed(text: str, count: int) -> str:
    period = 2 * (count - 1)
    places = sorted(range(len(text)), key=lambda at: (min(at % period, period - at % period), at))
    plain = [""] * len(text)
    for place, letter in zip(places, text, strict=True):
        plain[place] = letter
    return "".join(plain)
