"""Ciphers that change each word by one rule: Caesar, Atbash, the next key, words backwards, pig latin, doubled letters.

A text is searched only if many of its words are in no list. A rule is believed if it turns most of these into words of
the list, which hardly happens by chance; it then holds from the first to the last of the words that it explains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np

from guard.views.alphabets import LOWER
from guard.views.english import english
from guard.views.orders import reordered
from guard.views.segmentation import ranks, sure_words, wordy

_Rule = Callable[[str], str]
_WORD, _ANY_WORD = re.compile("[a-z]{2,}"), re.compile("[A-Za-z]+")
_SHARE, _FEWEST = 0.2, 3  # distinct words of a text that are in no list, at least
_DISORDER = 0.4  # the share in a text whose letters may be in another order
_SAMPLE, _EXPLAINED = 10, 0.5  # longest of these that a rule is tried on, and the share that it must explain
_ANAGRAMS, _ANAGRAMS_EXPLAINED = (
    5,
    0.75,
)  # number and share of words with letters in any order, of which more are words by chance
_HOPELESS = 4  # words, none of which a rule explains, after which it is given up
_LEAST = 12  # letters that a rule must explain
_LONGEST = 24  # letters of a word that is looked up
_INFIXES = ("ub", "ob", "op", "ab", "ib", "eg", "ag", "arp", "iz")  # of secret languages of children, before vowels
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_VISIBLE = "".join(map(chr, range(33, 127)))
_ROT47 = str.maketrans(_VISIBLE, _VISIBLE[47:] + _VISIBLE[:47])
_DOUBLED, _TRIPLED = re.compile(r"(?:([a-z])\1)+"), re.compile(r"(?:([a-z])\1\1)+")


def _table(signs: str) -> _Rule:
    table = str.maketrans(LOWER, signs)
    return lambda word: word.translate(table)


def _keys(by: int) -> str:
    """For each letter the one that stands so many keys to its right."""
    place = {letter: (row, at) for row in _ROWS for at, letter in enumerate(row)}
    return "".join(row[(at + by) % len(row)] for row, at in map(place.__getitem__, LOWER))


def _unpigged(word: str) -> str:
    """Pig latin: what stood before the first vowel is at the end, before -ay."""
    if not word.endswith("ay") or len(word) < 4:
        return word
    body = word[:-2]
    turned = [body[-size:] + body[:-size] for size in range(1, min(5, len(body)))]
    if body[-1] in "wy":
        turned.append(body[:-1])
    return min(turned, key=lambda one: ranks().get(one, len(ranks())))


def _once(word: str, doubled: re.Pattern[str], times: int) -> str:
    return word[::times] if doubled.fullmatch(word) else word


def _without_infix(word: str, infix: re.Pattern[str]) -> str:
    return infix.sub("", word)


def _without_filler(word: str) -> str:
    """Every second letter, if one letter stands between all others."""
    return word[::2] if len(word) > 2 and len(set(word[1::2])) == 1 else word


# The commonest letters tell which of these alphabets can be the right ones.
_ALPHABETS = (*(LOWER[by:] + LOWER[:by] for by in range(1, 26)), LOWER[::-1], *map(_keys, (-1, 1)))
_LETTER_RULES = tuple(map(_table, _ALPHABETS))
_LIKELIEST = 3  # of these alphabets, so many are tried
_FREQUENCIES = np.array(
    [82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1]
)
_EXPECTED = np.array([[_FREQUENCIES[LOWER.index(plain)] for plain in alphabet] for alphabet in _ALPHABETS])
_WORD_RULES: tuple[_Rule, ...] = (
    lambda word: word[::-1],
    _unpigged,
    lambda word: "".join(word[at : at + 2][::-1] for at in range(0, len(word), 2)),
    lambda word: word[-1] + word[:-1],
    lambda word: word[1:] + word[0],
    lambda word: word[-1] + word[1:-1] + word[0],
    partial(_once, doubled=_DOUBLED, times=2),
    partial(_once, doubled=_TRIPLED, times=3),
    _without_filler,
    *(partial(_without_infix, infix=re.compile(f"{infix}(?=[aeiouy])")) for infix in _INFIXES),
)


@cache
def _by_letters() -> Mapping[tuple[str, str, str], str]:
    """The commonest word with the same first and last letter and the same letters between them, in any order."""
    return {(word[0], word[-1], "".join(sorted(word[1:-1]))): word for word in reversed(tuple(ranks()))}


@cache
def _by_all_letters() -> Mapping[str, str]:
    return {"".join(sorted(word)): word for word in reversed(tuple(ranks()))}


def _unshuffled(word: str) -> str:
    return _by_letters().get((word[0], word[-1], "".join(sorted(word[1:-1]))), word)


def _unsorted(word: str) -> str:
    return _by_all_letters().get("".join(sorted(word)), word)


def deciphered(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and plain text of what a rule explains best, if any does."""
    if 2 * sum(map(str.isalpha, text)) < len(text) and wordy(plain := text.translate(_ROT47)):
        yield 0, len(text), plain
        return
    if not text.isascii() and 2 * sum(map(str.isascii, text)) < len(text):
        return
    words = set(_WORD.findall(text.lower()))
    strange = words - sure_words()
    if len(strange) < max(_FEWEST, _SHARE * len(words)):
        return
    sample = sorted(filter(lambda word: len(word) <= _LONGEST, strange), key=lambda word: (-len(word), word))[:_SAMPLE]
    letters = _letter_rules("".join(strange))
    anagrams = (_unshuffled, _unsorted) if len(sample) >= _ANAGRAMS else ()
    if rule := _explaining(sample, (*letters, *_WORD_RULES)):
        yield from _plain(text, rule)
    elif rule := _explaining(sample, anagrams, _ANAGRAMS_EXPLAINED):
        # Only what is prose: in Portuguese "lembra desse" is not "marble seeds".
        yield from (found for found in _plain(text, rule) if english(found[2], prose=True))
    elif rule := _explaining([word[::-1] for word in sample], letters):
        yield from ((len(text) - end, len(text) - start, plain) for start, end, plain in _plain(text[::-1], rule))
    elif len(strange) >= _DISORDER * len(words) and (ordered := reordered(text)):
        yield 0, len(text), ordered


def _letter_rules(letters: str) -> list[_Rule]:
    """The rules that make the letters as frequent as they are in English."""
    likely = np.argsort(_EXPECTED @ np.array([*map(letters.count, LOWER)]))[: -1 - _LIKELIEST : -1]
    return [_LETTER_RULES[index] for index in likely]


def _plain(text: str, rule: _Rule) -> Iterator[tuple[int, int, str]]:
    found = _range(text, rule)
    if found is not None:
        start, end = found
        plain = _ANY_WORD.sub(lambda word: _cased(word[0], rule(word[0].lower())), text[start:end])
        if wordy(plain):
            yield start, end, plain


def _explaining(sample: Sequence[str], rules: Sequence[_Rule], share: float = _EXPLAINED) -> _Rule | None:
    """The rule that turns most letters of these words into words of the list, if they are enough."""
    best, most, known = None, max(_LEAST - 1, int(share * sum(map(len, sample)))), sure_words()
    for rule in rules:
        explained = 0
        for tried, word in enumerate(sample, 1):
            if (plain := rule(word)) != word and plain in known:
                explained += len(word)
            elif tried == _HOPELESS and not explained:
                break
        if explained > most:
            best, most = rule, explained
    return best


def _range(text: str, rule: _Rule) -> tuple[int, int] | None:
    """From the first to the last word of the stretch in which the rule gains most."""
    start = end = begun = 0
    gain, best, known = 0, 0, sure_words()
    for match in _ANY_WORD.finditer(text):
        word = match[0].lower()
        plain = rule(word)
        if gain < 0 or (gain == 0 and plain not in known):  # else the word may be part of what follows
            gain, begun = 0, match.start()
        gain += len(word) * ((plain in known) - (word in known))
        if gain >= best:
            best, start, end = gain, begun, match.end()
    return (start, end) if best >= _LEAST else None


def _cased(word: str, plain: str) -> str:
    return plain.upper() if word.isupper() and len(word) > 1 else plain.capitalize() if word[0].isupper() else plain
