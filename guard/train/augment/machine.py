"""Machine texts: harmless pages, forms, logs and code, made up anew each time, as noise on which no label depends.

A genre writes lines without end; a text is some of them, cut to length, so that it may begin or stop anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from guard.train.augment import pages, programs
from guard.train.augment.vocabulary import Pen

Genre = Callable[[Pen], Iterator[str]]
GENRES: Mapping[str, Genre] = {genre.__name__: genre for genre in (*pages.GENRES, *programs.GENRES)}
LOST = 32  # characters by which a text is shorter than asked at most: it ends with a whole word where it can
_NAMES = tuple(GENRES)
_WORD = 24


def machine_text(rng: random.Random, length: int) -> str:
    """A harmless text of a random genre, of at most `length` characters and nearly that long."""
    return text_of(_NAMES[int(rng.random() * len(_NAMES))], rng, length)


def text_of(genre: str, rng: random.Random, length: int) -> str:
    """The same of one genre of GENRES."""
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
