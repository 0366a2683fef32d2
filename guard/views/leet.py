"""Leet with many signs: \\/\\/0|2|)5 |_|5|<3 7|-|353, where a letter is written with several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice, product

from guard.views.segmentation import sure_words

# Letters by what is drawn for them; where it can be one of two, both. Longer drawings are looked for first.
_DRAWN = {
    "\\/\\/": "w", "|\\/|": "m", "/\\/\\": "m", "\\|/": "w", "|\\|": "n", "/\\/": "n", "/-\\": "a", "|-|": "h",
    "]-[": "h", "}{": "h", ")(": "x", "><": "x", "|_|": "u", "(_)": "u", "|)": "d", "|>": "d", "[)": "d", "()": "o",
    "[]": "o", "|=": "f", "|<": "k", "|{": "k", "|_": "l", "|*": "p", "|2": "r", "|?": "r", "\\/": "v", "`/": "y",
    "'/": "y", "/\\": "a", "0,": "q", "_|": "j", "(": "c", "<": "c", "[": "c", "{": "c", "0": "o", "1": "li", "2": "zr",
    "3": "e", "4": "a", "5": "s", "6": "gb", "7": "t", "8": "b", "9": "gq", "@": "a", "$": "s", "!": "il", "|": "il",
    "+": "t", "€": "e", "£": "l", "^": "a", "&": "a",
}  # fmt: skip
_DRAWING = re.compile("|".join(map(re.escape, sorted(_DRAWN, key=len, reverse=True))))
_UNCOMMON = "+|/\\()<>{}[]2689^&£"  # signs beyond those of `guard.views.joining`
_SIGNS = "0123456789@$!|+€£^&(<[{\\/"
_SIGN = re.compile(f"[{re.escape(_SIGNS)}]")
_TOKEN = re.compile(r"\S+")
_ENDS = ".,;:?!\"'"
_SHARE = 0.15  # of the visible characters, those that are such signs
_FEWEST, _LETTERS, _READ = 3, 8, 0.6  # words in leet and their letters, at least, and the share of them that are words
_WAYS = 64  # in which an ambiguous word is read, at most
_LONGEST = 40  # characters of one word


def unleeted(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and plain text from the first word in leet to the last, if most of them are words then."""
    if sum(map(text.count, _UNCOMMON)) < _FEWEST or sum(map(text.count, _SIGNS)) < _SHARE * len(text):
        return
    drawn = [match for match in _TOKEN.finditer(text) if len(match[0]) <= _LONGEST and _SIGN.search(match[0])]
    words: dict[str, str] = {}
    unread = (1 - _READ) * len(drawn)  # that are allowed; code has more at once
    for token, count in Counter(match[0] for match in drawn).items():
        if (word := _word(token)) is not None:
            words[token] = word
        elif (unread := unread - count) < 0:
            return
    read = [match for match in drawn if match[0] in words]
    if len(read) < _FEWEST or sum(len(words[match[0]]) for match in read) < _LETTERS:
        return
    start, end = read[0].start(), read[-1].end()
    plain = _TOKEN.sub(lambda token: words.get(token[0], token[0]), text[start:end])
    if len(plain) <= end - start:
        yield start, end, plain


def _word(token: str) -> str | None:
    """The word that a token in leet is, with the marks around it; None if it is none."""
    for bare in dict.fromkeys((token, token.rstrip(_ENDS))):
        parts = _DRAWING.split(bare.lower())
        ways = product(*(_DRAWN[drawing] for drawing in _DRAWING.findall(bare)))
        for letters in islice(ways, _WAYS):
            word = parts[0] + "".join(letter + part for letter, part in zip(letters, parts[1:], strict=True))
            if word in sure_words() and (len(word) > 1 or word == "a"):
                return word + token[len(bare) :]
    return None
