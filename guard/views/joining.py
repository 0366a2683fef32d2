"""Rejoining of words: spaced-out letters are joined, run-together words are split, hyphens in words are removed, digits
and signs that stand for letters are replaced."""

from __future__ import annotations

import re
from collections import Counter

from guard.views.english import likeness
from guard.views.markup import without_markup
from guard.views.segmentation import parted, rejoined, unhyphenated, wordy

# The shape of a text, a byte for each character, in which the cheap tests below are single searches of bytes.
_LETTER, _LEET_DIGIT, _LEET_SIGN, _GAP, _OTHER = b"a0$ x"
_DIGITS, _SIGNS = "431057", "@$!€"
_LEET = str.maketrans(_DIGITS + _SIGNS, "aeiostasie")
_GAPS = " \t\n\r.,-_*+/~:;'\"^=#<>()[]{}\\\xa0·"
_BETWEEN = "[\\s!-/:-@\\[-`{-~\xa0·•‧∙⋅‐-―]{1,5}+"
_SPACED = re.compile(
    rf"(?<![^\W_])[^\W_]{_BETWEEN}(?:[^\W_](?![^\W_]){_BETWEEN})+[^\W_](?![^\W_])(?:[ .\-_*·]{{1,5}}[^\w\s])?"
)
_GAP_RUN = re.compile(r"[\W_]+")
_SPACED_SHAPE = b" a a a "
_LEET_SHAPES = (b"a0", b"0a", b"a$", b"$a")
_TOKEN = re.compile(r"\S+")
_WORD = re.compile(r"(?<![\w@$!€])[A-Za-z0-9@$!€]*[A-Za-z0-9@$€]")
_LEET_WORD = re.compile(rf"[A-Za-z]*[{_DIGITS}{_SIGNS}][A-Za-z{_DIGITS}{_SIGNS}]*")
_AMONG_LETTERS = re.compile(rf"[A-Za-z][{_DIGITS}@$€]+[A-Za-z]|^[A-Za-z]{{1,3}}![a-z]{{1,4}}$")
_BEFORE_LETTERS = re.compile(rf"[{_DIGITS}]+[A-Za-z]{{2}}")
_MEASURE = re.compile(
    r"(?:\d*1st|\d*2nd|\d*3rd|\d+th)|\$?\d+(?:s|k|m|g|l|d|h|w|v|p|x|am|pm|km|cm|mm|kg|mg|ml|lb|lbs|oz|ft|in|px|pt|kb|mb|gb|tb|hz|khz|mhz|ghz"
    r"|kw|kwh|min|mins|sec|secs|hr|hrs|yo|usd|eur|bn|mn)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"://|www\.|@[\w-]+\.|\.(?:com|org|net)\b")
_LIKE_ENGLISH, _VERY_LIKE_ENGLISH = 0.45, 0.6  # where there are leet words, and where there is just one
_LETTERS = 4  # single letters that are a word, at least
_FEW = 6  # words of a text that is so short that one in leet is enough


def _shapes() -> bytes:
    kinds = bytearray([_OTHER] * 256)
    for code in range(256):
        letter = chr(code)
        if letter.isalpha() or letter == "?":  # a question mark is every character outside Latin-1
            kinds[code] = _LETTER
        elif letter in _DIGITS:
            kinds[code] = _LEET_DIGIT
        elif letter in _SIGNS:
            kinds[code] = _LEET_SIGN
        elif letter in _GAPS:
            kinds[code] = _GAP
    return bytes(kinds)


_SHAPES = _shapes()


def joined(text: str) -> str:
    """The text with its words as they are commonly written."""
    shape = _shape(text)
    if _SPACED_SHAPE in shape.replace(b"  ", b" ").replace(b"  ", b" "):
        text = _SPACED.sub(lambda match: _closed(match[0]), text)
    text = without_markup(text)
    shape = _shape(text)
    signs = (b"0" in shape or b"$" in shape) and any(leet in shape for leet in _LEET_SHAPES)
    return rejoined(parted(unhyphenated(_spelled(text) if signs else text)))


def _shape(text: str) -> bytes:
    return b" " + text.encode("latin-1", "replace").translate(_SHAPES) + b" "


def _closed(spaced: str) -> str:
    """The letters without the separator between them; what else stands between two letters is kept."""
    if sum(map(str.isalpha, spaced)) < _LETTERS:
        return spaced
    gaps = _GAP_RUN.findall(spaced)
    if len(set(gaps)) == 1:
        return _GAP_RUN.sub("", spaced)
    (separator, count), *_ = Counter(gaps).most_common(1)
    if 2 * count < len(gaps):  # formulas and code, unless these are words
        words = _GAP_RUN.sub(lambda gap: " " * (len(gap[0]) > 1), spaced)
        return words if wordy(words) else spaced
    return _GAP_RUN.sub(lambda gap: _between(gap[0], separator), spaced)


def _between(gap: str, separator: str) -> str:
    if gap == separator:
        return ""
    return gap[1::2] if len(separator) == 1 and set(gap[::2]) == {separator} else " "


def _spelled(text: str) -> str:
    """The text with letters for leet, if its leet words make English ones."""
    tokens = Counter(token for token in _TOKEN.findall(text) if not _ADDRESS.search(token))
    words = Counter(word for token in tokens for word in _WORD.findall(token))
    leet = [word for word in words if _is_leet(word)]
    among = [word for word in leet if _AMONG_LETTERS.search(word) and (len(word) > 3 or not word.isupper())]
    clear = [*among, *(word for word in leet if _BEFORE_LETTERS.match(word) and not _AMONG_LETTERS.search(word))]
    least = _LIKE_ENGLISH if len(clear) > 1 else _VERY_LIKE_ENGLISH
    few = len(words) <= _FEW
    if not (among or len(clear) > 1 or (few and clear)) or likeness(" ".join(clear).translate(_LEET)) < least:
        return text
    translated = {word: word.translate(_LEET) for word in leet}
    if len(leet) > 1 or few:  # then a number is a word, too
        translated |= {word: word.translate(_LEET) for word in words if _LEET_WORD.fullmatch(word)}
    spelled = {token: _WORD.sub(lambda word: translated.get(word[0], word[0]), token) for token in tokens}
    return _TOKEN.sub(lambda token: spelled.get(token[0], token[0]), text)


def _is_leet(word: str) -> bool:
    return bool(word.strip(_DIGITS) and _LEET_WORD.fullmatch(word)) and not _MEASURE.fullmatch(word)
