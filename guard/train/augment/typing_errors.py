"""Typing errors: what somebody writes in a hurry, or to get past a guard that knows words only as they are spelt."""

from __future__ import annotations

import random
import re

_WORD = re.compile(r"[^\W\d_]{3,}")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}
_MOST = 0.6  # share of the words that are hit at most


def mistyped(text: str, rng: random.Random) -> str:
    """The text with a random share of its words mistyped: letters swapped, left out, doubled or hit beside the key."""
    share = rng.uniform(0.05, _MOST)
    return _WORD.sub(lambda match: _mistyped(match[0], rng) if rng.random() < share else match[0], text)


def _mistyped(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    match rng.randrange(4):
        case 0:
            at = min(at, len(word) - 2)
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 1:
            return word[:at] + word[at + 1 :]
        case 2:
            return word[:at] + word[at] + word[at:]
        case _:
            keys = _NEIGHBOURS.get(word[at].lower(), word[at])
            return word[:at] + rng.choice(keys) + word[at + 1 :]
