"""Codes with a sign for each letter: Morse, Braille, the radio alphabet, numbers of letters, keys of a telephone."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from guard.views.alphabets import BRAILLE, FANCY, KEYPAD, LOWER, MIRRORED, MORSE, RADIO, inverse
from guard.views.segmentation import wordy

_GAP = re.compile(r"[^\w]+")
_NUMBER = re.compile(r"\d+")
_DOTS_AND_DASHES = str.maketrans("•·∙−–—_|", "...----/")
_FROM_MORSE, _FROM_KEYPAD = inverse(MORSE), inverse(KEYPAD)
_FROM_BRAILLE = str.maketrans(inverse(BRAILLE))
_FROM_INDICATORS = {0x1F1E6 + number: letter for number, letter in enumerate(LOWER)}
_RADIO = inverse(RADIO) | {"alpha": "a", "juliet": "j", "x-ray": "x", "whisky": "w"}
_TAP = [letter for letter in LOWER if letter != "k"]  # c stands for it
_FANCY = [str.maketrans(inverse(table)) for table in FANCY.values()]
_FANCY_SIGNS = frozenset(sign for table in (*FANCY.values(), MIRRORED) for sign in table.values() if not sign.isascii())
_FROM_MIRRORED = str.maketrans(inverse(MIRRORED))
_FANCY_LEAST, _FANCY_SHARE = 6, 0.3  # signs of a fancy text, and their share of its letters


@dataclass(frozen=True, slots=True)
class _Code:
    """run: a text in the code. decode: its letters, None if it is no code. gate: a cheap test of the whole text."""

    run: re.Pattern[str]
    decode: Callable[[str], str | None]
    gate: Callable[[str], bool] = bool


def _count(text: str, signs: Iterable[str]) -> int:
    return sum(map(text.count, signs))


def _morse(run: str) -> str | None:
    words = re.split(r"\s*/+\s*|\s{2,}", run.translate(_DOTS_AND_DASHES).strip())
    decoded = [[_FROM_MORSE.get(sign) for sign in word.split()] for word in words]
    signs = [letter for word in decoded for letter in word]
    if None in signs:
        return None
    return " ".join("".join(letter or "" for letter in word) for word in decoded)


def _letters(run: str, letters: Mapping[str, str]) -> str | None:
    """Letters for the numbers of a run: the commonest separator stands between letters, all others between words."""
    gaps = Counter(_GAP.findall(run.strip()))
    between = gaps.most_common(1)[0][0]
    if len(gaps) > 1 and between == max(gaps, key=len):  # the longest one parts words, if one letter
        between = min(gaps, key=len)
    plain = [letters.get(number) for number in _NUMBER.findall(run)]
    if None in plain:
        return None
    parts = ["" if gap == between else " " for gap in _GAP.findall(run.strip())]
    return "".join(f"{letter}{part}" for letter, part in zip(plain, [*parts, ""], strict=True))


_NUMBERED = {str(number): letter for number, letter in enumerate(LOWER, 1)} | {
    f"{number:02}": letter for number, letter in enumerate(LOWER, 1)
}
_TAPPED = {f"{at // 5 + 1}{at % 5 + 1}": letter for at, letter in enumerate(_TAP)}


def _bacon(run: str) -> str | None:
    bits = "".join(run.lower().split()).translate(str.maketrans("ab", "01"))
    numbers = [int(bits[at : at + 5], 2) for at in range(0, len(bits) // 5 * 5, 5)]
    return None if max(numbers) > 25 else "".join(LOWER[number] for number in numbers)


def _radio(run: str) -> str:
    words = re.split(r"\s*[/|,.;\n]\s*|\s{2,}", run.strip().lower())
    return " ".join("".join(map(_RADIO.__getitem__, re.findall(_RADIO_WORD, word))) for word in words)


_DOT, _SIGN = ".•·∙", ".•·∙−–—_-"
_RADIO_WORD = f"(?:{'|'.join(sorted(_RADIO, key=len, reverse=True))})"
_CODES = (
    _Code(
        re.compile(rf"(?<![\w{_SIGN}])[{_SIGN}]{{1,6}}(?:[ /|\n]{{1,3}}[{_SIGN}]{{1,6}}){{7,}}+(?![\w{_SIGN}])"),
        _morse,
        gate=lambda text: _count(text, "-−–—_") > 3,
    ),
    _Code(
        re.compile(r"[\u2801-\u283f]+(?:[\s\u2800]+[\u2801-\u283f]+)*"),
        lambda run: run.translate(_FROM_BRAILLE).replace("\u2800", " "),
        gate=lambda text: not text.isascii(),
    ),
    _Code(
        re.compile("[\U0001f1e6-\U0001f1ff](?:[\\s\u200b\u200d]*[\U0001f1e6-\U0001f1ff]){7,}+"),
        lambda run: re.sub("[\u200b\u200d]", "", run).translate(_FROM_INDICATORS),
        gate=lambda text: not text.isascii(),
    ),
    _Code(
        re.compile(rf"\b{_RADIO_WORD}(?:[\s/|,.;-]{{1,3}}{_RADIO_WORD}\b){{6,}}+", re.IGNORECASE),
        _radio,
        gate=lambda text: _count(text.lower(), ("echo", "tango", "oscar", "alfa", "alpha", "india", "romeo")) > 2,
    ),
    _Code(
        re.compile(r"(?<![\d.])\d{1,2}(?:[ ,./|;\n-]{1,3}\d{1,2}){7,}+(?![\d.])"),
        lambda run: _letters(run, _NUMBERED),
        gate=lambda text: _count(text, string.digits) > 7,
    ),
    _Code(
        re.compile(r"(?<![\d.])[1-5]{2}(?:[ ,./|;\n-]{1,3}[1-5]{2}){7,}+(?![\d.])"),
        lambda run: _letters(run, _TAPPED),
        gate=lambda text: _count(text, string.digits) > 15,
    ),
    _Code(
        re.compile(r"(?<![\d.])([2-9])\1{0,3}(?:[ ,./|;\n-]{1,3}([2-9])\2{0,3}){7,}+(?![\d.])"),
        lambda run: _letters(run, _FROM_KEYPAD),
        gate=lambda text: _count(text, string.digits) > 15,
    ),
    _Code(
        re.compile(r"\b[ab]{5}(?:\s?[ab]{5}){7,}+\b|\b[AB]{5}(?:\s?[AB]{5}){7,}+\b"),
        _bacon,
        gate=lambda text: 3 * _count(text, "abAB") > len(text),
    ),
)


def spelled(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and plain text of all runs in such a code that make English words."""
    for code in _CODES:
        if code.gate(text):
            for run in code.run.finditer(text):
                plain = code.decode(run[0])
                if plain is not None and wordy(plain):
                    yield run.start(), run.end(), plain


def fancy(text: str) -> Iterator[tuple[int, int, str]]:
    """The whole text, if it is written in signs of other scripts that merely look like Latin letters."""
    if text.isascii():
        return
    signs = sum(map(_FANCY_SIGNS.__contains__, text))
    if signs < _FANCY_LEAST or signs < _FANCY_SHARE * sum(map(str.isalpha, text)):
        return
    for table in _FANCY:
        plain = text.translate(table)
        if wordy(plain):
            yield 0, len(text), plain
            return
    mirrored = text.translate(_FROM_MIRRORED)[::-1]
    if wordy(mirrored):
        yield 0, len(text), mirrored
