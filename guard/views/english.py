"""How much a text looks like English, by its common letter bigrams."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from itertools import accumulate, pairwise

# About the 110 most frequent pairs of English prose, and the letters that words most often begin and end with.
_INSIDE = (
    "th he in er an re nd on en at ou ed ha to or it is hi es ng st ar te se al ti as me ve nt of le co ea ra ro li ri "
    "io ll be ma de ch si la el us et fo ho om wh ne ta no ca il ot pe ss di do wi so mo ow ec tr ly ac ur em ke ee sh "
    "ge ce ut un id ie ad ay ey my yo bo bu ak ck ct ir wa we am im ic ul po pr pl su ns ts rs op mp oo ef if gh ht ld"
)
_STARTS, _ENDS = "taoiswhmbfpc", "esdtnryofgl"
_COMMON = frozenset([*_INSIDE.split(), *(f" {letter}" for letter in _STARTS), *(f"{letter} " for letter in _ENDS)])
_BACKWARDS = frozenset(pair[::-1] for pair in _COMMON)
_WORDS = re.compile("[a-z]+")
_SPACE = re.compile(r"\s+")
_LETTERS = bytes(code if chr(code) in "abcdefghijklmnopqrstuvwxyz" else 32 for code in range(256))
_FREQUENT = frozenset(
    _WORDS.findall(
        "the and you how for that with what are this can who your make not have about tell give write from was his her "
        "they will would one all"
    )
)
# The most frequent words, none of them English, of Dutch, French, German, Italian, Portuguese, Spanish and Turkish.
_FOREIGN = frozenset(
    _WORDS.findall(
        "le la les des du un une et il elle est que qui pour dans sur ne pas je tu mon ma ses au el los las de del "
        "y en por con se lo su mi una como para os das um uma na em com meu minha der und ich ist nicht ein eine "
        "wie wenn meiner meine mit den dem von zu auf di che per non mio mia della gli het een van ik niet mijn "
        "voor bir ve bu icin nasil"
    )
)
# Frequent pairs of words that make no sense the other way round.
_PAIRS = frozenset(
    (first, second)
    for pairs in (
        ("of in to on for with and from at by is as before into", "the a an my your his her our their"),
        ("how want way need have going used ways trying like", "to"),
        ("tell give show help teach", "me us"),
        ("me us", "how what to the about"),
        ("what how why where when", "is are do does did can"),
        ("to", "make get be do find use"),
    )
    for first in pairs[0].split()
    for second in pairs[1].split()
)
_SURE, _LIKELY = 0.72, 0.45
_SHORT, _EVERY = 12, 10  # letters of the shortest text, words of which one is frequent
_FALL = 8  # what a stretch may lose from its best point before it ends there


def likeness(text: str) -> float:
    """The share of pairs of letters that are common in English, the edges of words included.

    Above 0.6 in English prose, mostly below 0.35 in random letters.
    """
    words = f" {' '.join(_WORDS.findall(text.lower()))} "
    return sum(_hits(words)) / max(len(words) - 1, 1)


def english(text: str, prose: bool = False) -> bool:
    """Whether a text looks like English: it has common bigrams and common words.

    prose: require common words, however common the bigrams.
    """
    words = _WORDS.findall(text.lower())
    letters = sum(map(len, words))
    if letters < _SHORT or 2 * letters < len(text):
        return False
    share = likeness(text)
    frequent = sum(map(_FREQUENT.__contains__, words))
    return (share >= _SURE and not prose) or (share >= _LIKELY and frequent >= 1 + len(words) // _EVERY)


def foreign(text: str) -> bool:
    """Whether a text has two frequent words of other European languages, and more of them than of English."""
    words = set(_WORDS.findall(text.lower()))
    return len(words & _FOREIGN) >= max(2, len(words & _FREQUENT) + 1)


def in_order(text: str) -> bool:
    """Whether the words of an English text stand in their order rather than in the reverse one."""
    words = _WORDS.findall(text.lower())
    forwards, backwards = (sum(map(_PAIRS.__contains__, pairwise(order))) for order in (words, words[::-1]))
    return forwards >= backwards


def stretches(text: str, other: str | None, least: int) -> list[tuple[int, int]]:
    """Ranges of whole words in which `other`, a text of the same length, has at least `least` more common pairs than
    the text; without one, in which the text read backwards has."""
    own = f" {_letters(text)} "
    turned = _hits(own, _BACKWARDS) if other is None else _hits(f" {_letters(other)} ")
    gains = [0, *accumulate(map(operator.sub, turned, _hits(own)))]
    if max(map(operator.sub, gains, accumulate(gains, min))) < least:
        return []
    ranges: list[tuple[int, int]] = []
    start = end = base = best = 0  # a stretch up to its best point, and the gains at both
    spaces = [(space.start(), space.end()) for space in _SPACE.finditer(text)]
    for stop, following in [*spaces, (len(text), len(text))]:
        gain = gains[stop + 1]  # with the pair at the edge of the word
        if gain > best:
            best, end = gain, stop
        if gain <= base or gain <= best - _FALL:
            if best - base >= least:
                ranges.append((start, end))
            start = end = following
            base = best = gains[following]
    if best - base >= least:
        ranges.append((start, end))
    return ranges


def _letters(text: str) -> str:
    """The text in small letters with spaces for all else, character by character."""
    return text.encode("latin-1", "replace").lower().translate(_LETTERS).decode("latin-1")


def _hits(letters: str, common: frozenset[str] = _COMMON) -> Iterator[bool]:
    return map(common.__contains__, map(operator.add, letters, letters[1:]))
