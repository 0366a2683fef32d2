"""Machine texts: harmless, randomly generated pages, forms, logs and code, as noise that no label depends on.

A genre generates an endless sequence of lines; a text is an excerpt of them, so that it may begin or stop anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from guard.data.documents import operations, pages, papers, programs
from guard.data.documents.vocabulary import Pen

Genre = Callable[[Pen], Iterator[str]]
GENRES: Mapping[str, Genre] = {
    genre.__name__: genre for genre in (*pages.GENRES, *programs.GENRES, *operations.GENRES, *papers.GENRES)
}
LOST = 32  # a text is at most this many characters shorter than requested, to end with a whole word
_NAMES = tuple(GENRES)
_WORD = 24


def machine_text(rng: random.Random, length: int) -> str:
    """A harmless text of a random genre, of at most `length` characters and almost that long."""
    return text_of(_NAMES[int(rng.random() * len(_NAMES))], rng, length)


def text_of(genre: str, rng: random.Random, length: int) -> str:
    """Likewise, of one genre of GENRES."""
    skipped = int(rng.random() * 4) if rng.random() < 0.5 else 0
    taken: list[str] = []
    left = length
    for line in islice(GENRES[genre](Pen(rng)), skipped, None):
        if left <= 0:
            break
        if len(line) > left:
            space = line.rfind(" ", max(0, left - _WORD), left + 1)
            taken.append(line[: space if space > 0 and line[:space].strip() else left])
            break
        if line or taken:
            taken.append(line)
            left -= len(line) + 1
    return "\n".join(taken).rstrip()
