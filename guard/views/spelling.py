"""Spelling correction: words with swapped, repeated or missing letters or without vowels, and censored words."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby, product
from typing import NamedTuple

from guard.views.english import foreign
from guard.views.segmentation import ranks

# Words of letters only, none in addresses, paths, numbers and names of variables.
_WORD = re.compile(r"(?<![\w@/\\$&#])(?<!\w[.'’])[^\W\d_]{3,24}(?![\w@/\\]|\.\w)")
_ANY_WORD = re.compile(r"(?<![\w'’])[A-Za-z]{1,24}(?![\w])")
_SHORT = 4  # letters up to which a word is easily mistaken for another one
_LEFT_OUT = 6  # how much commoner a word must be that lost a letter than one whose letters were swapped or typed twice
_BASE = 50  # rank up to which all words are as common
_COMMON = 2000  # rank, at most, of what a short word surely stands for, since many an abbreviation is like some word
_ONE, _SEVERAL = 20, 100  # distinct words to each that is surely mistyped, at most, where there is one or several
_ENGLISH = 3  # distinct words to each that is no word and stands for none, at least
_CENSORED = re.compile(r"""(?<![^\s"'(“‘])([A-Za-z]{1,12})\*([A-Za-z]{1,12})(?=[\s"'.,;:!?)”’]|$)""")
_CENSORED_SHORT = 4  # letters of a censored word, at least
_UNAMBIGUOUS = 10  # how much commoner a word must be than the next one that a censored word can stand for
_VOWEL = re.compile("[aeiou]")
_STARRED = re.compile(r"(?<![\w*])(?=[A-Za-z]*\*)(?=\**[A-Za-z])[A-Za-z*]{1,24}(?![\w*])")  # a star for a vowel or more
_STARS, _STARRED_SHARE = 4, 0.3  # distinct words with stars where all vowels are, and their share of all words
_BARE = re.compile(r"[a-z][^\Waeiou\d_]*")  # a word without vowels but perhaps the first
_BARE_LENGTH, _BARE_FEWEST, _BARE_SHARE = 4, 3, 0.6  # letters of longer words, and how many of them have no vowels
_VOWELS = 0.2  # of the characters of such a text, those that are vowels, at most; of English prose, three tenths
_STRETCHED = re.compile(r"([a-z])\1\1")
_STRETCHES = 4  # letters of a word that come three times or more, at most
_EMPHATIC = 1000  # rank, at least, of what nobody stretches for emphasis: so and no, in chats
_PLAIN = ("s", "es", "ly", "ness", "less")
_CHANGING = ("ed", "er", "ers", "ing", "y", "able")  # before these a stem loses its e or doubles its consonant
_DOUBLED = re.compile(r"[^aeiou][aeiou]([bdglmnprt])\1\Z")


class _Fix(NamedTuple):
    """cost: lower where the word is commoner and the error likelier. sure: no name or abbreviation, but an error."""

    cost: int
    word: str
    sure: bool


def corrected(text: str) -> str:
    """The text with its mistyped words as they were meant, if it is English and there are so many that they are a sign
    of haste or of an attack: one in a short text, several in a long one.

    Words of the list that an error made of others stay, and so do names and terms that are unlike all words.
    """
    text = _voiced(_CENSORED.sub(_uncensored, _unstarred(text)))
    if foreign(text):  # there many a word is nearly an English one
        return text
    words = set(_WORD.findall(text.lower()))
    strange = [word for word in words if not _is_word(word)]
    fixes = {word: fix for word in strange if (fix := min(_fixes(word), default=None)) is not None}
    sure = sum(fix.sure for fix in fixes.values())
    unlike = len(strange) - len(fixes)
    if not sure or sure * (_SEVERAL if sure > 1 else _ONE) < len(words) or unlike * _ENGLISH > len(words):
        return text
    return _WORD.sub(lambda match: _cased(match[0], fixes.get(match[0].lower())), text)


def _cased(word: str, fix: _Fix | None) -> str:
    if fix is None:
        return word
    return fix.word.upper() if word.isupper() else fix.word.capitalize() if word[0].isupper() else fix.word


def _unstarred(text: str) -> str:
    """The text with vowels where it has stars, if many words have them."""
    if text.count("*") < _STARS:
        return text
    starred = set(_STARRED.findall(text))
    if len(starred) < max(_STARS, _STARRED_SHARE * len(set(text.split()))):
        return text
    return _STARRED.sub(lambda word: _by_consonants("*").get(word[0].lower(), word[0]), text)


def _voiced(text: str) -> str:
    """The text with its vowels, if most of its longer words have none but perhaps a first."""
    if sum(map(text.count, "aeiouAEIOU")) > _VOWELS * len(text):  # nearly all texts
        return text
    words = set(_WORD.findall(text.lower()))
    longer = [word for word in words if len(word) >= _BARE_LENGTH]
    bare = sum(_BARE.fullmatch(word) is not None for word in longer)
    if bare < max(_BARE_FEWEST, _BARE_SHARE * len(longer)):
        return text
    return _ANY_WORD.sub(lambda word: _with_vowels(word[0]), text)


def _with_vowels(word: str) -> str:
    whole = _by_consonants("").get(word.lower(), word)
    return whole.capitalize() if word[0].isupper() else whole


def _uncensored(word: re.Match[str]) -> str:
    """The word whose letter a star hides, if it can hardly be another one."""
    before, after = word.groups()
    if len(before) + 1 + len(after) < _CENSORED_SHORT:
        return word[0]
    candidates = (f"{before}{letter}{after}".lower() for letter in string.ascii_lowercase)
    ranked = sorted((ranks()[one] + _BASE, one) for one in candidates if one in ranks())
    if not ranked or (len(ranked) > 1 and ranked[1][0] < _UNAMBIGUOUS * ranked[0][0]):
        return word[0]
    letter = ranked[0][1][len(before)]
    return f"{before}{letter.upper() if before.isupper() and after.isupper() else letter}{after}"


def _is_word(word: str) -> bool:
    """Whether it is a word of the list, or a regular form of one."""
    return word in ranks() or any(stem in ranks() for stem in _stems(word))


def _stems(word: str) -> Iterator[str]:
    for ending in (*_PLAIN, *_CHANGING):
        stem = word.removesuffix(ending)
        if len(stem) < _SHORT or stem == word:
            continue
        if stem[-1] == "i":
            yield f"{stem[:-1]}y"
        if ending not in _CHANGING:
            if ending != "s" or stem[-1] != "s":
                yield stem
            continue
        yield f"{stem}e"
        if stem[-1] != "e":
            yield stem
        if _DOUBLED.search(stem):
            yield stem[:-1]


def _fixes(word: str) -> Iterator[_Fix]:
    """The words that one error turned into the given one, the first letter being right."""
    known = ranks()
    for at in range(1, len(word)):
        same = word[at] == word[at - 1]
        other = word[:at] + word[at + 1 :] if same else f"{word[: at - 1]}{word[at]}{word[at - 1]}{word[at + 1 :]}"
        if other in known and (same or at > 1):
            long = len(word) > (_SHORT if same else _SHORT - 1)
            yield _Fix(known[other], other, long or (len(word) == _SHORT and known[other] < _COMMON))
    for other in _unstretched(word):
        yield _Fix(known[other], other, known[other] >= _EMPHATIC)
    whole = _shortened().get(word)
    if whole is not None:
        long = len(word) >= _SHORT or known[whole] < _COMMON
        # What lacks its last letter may be another form of the word, which the list lacks.
        yield _Fix(_LEFT_OUT * (known[whole] + _BASE), whole, long and whole[:-1] != word)


def _unstretched(word: str) -> Iterator[str]:
    """Words of which a letter that comes three times or more in a row is one or two."""
    if not _STRETCHED.search(word):
        return
    runs = [(letter, len(list(same))) for letter, same in groupby(word)]
    if sum(length > 2 for _, length in runs) <= _STRETCHES:
        for parts in product(*((letter, 2 * letter) if length > 2 else (letter * length,) for letter, length in runs)):
            if (whole := "".join(parts)) in ranks():
                yield whole


@cache
def _by_consonants(vowel: str) -> Mapping[str, str]:
    """The commonest word by its form with this in place of its vowels: all of them, or but for the first letter."""
    start = 0 if vowel else 1
    return {word[:start] + _VOWEL.sub(vowel, word[start:]): word for word in reversed(tuple(ranks()))}


@cache
def _shortened() -> Mapping[str, str]:
    """Words with one letter left out, but for the first, and the commonest word that each of them is made from."""
    words = [word for word in ranks() if len(word) >= _SHORT]
    return {word[:at] + word[at + 1 :]: word for word in reversed(words) for at in range(1, len(word))}
