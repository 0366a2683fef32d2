"""Confusables: letters that look like Latin ones, and when to replace them.

The pairs are those of the confusables of Unicode Technical Standard 39 that Unicode's compatibility forms (NFKC) leave
alone and that are drawn alike in common fonts. Russian and Greek texts consist of such letters in part, so a letter of
another alphabet is replaced only where its surroundings justify it.
"""

from __future__ import annotations

import re
from collections import Counter

from guard.views.alphabets import SMALL_CAPITALS, inverse

# Letters of living alphabets. The loose ones look alike less: they are Latin only in a word that has Latin letters.
_LETTERS = {
    "асеорхуіјѕһԁԛԝӏԍѵүАВСЕНІЈКМОРЅТХҮԌԚԜ": "aceopxyijshdqwlgvyABCEHIJKMOPSTXYGQW",  # Cyrillic
    "ονιραυκητΑΒΕΗΙΚΜΝΟΡΤΧΥΖϲϳϹ": "ovipaukntABEHIKMNOPTXYZcjC",  # Greek
    "օոսհզցյՕՍՏԼ": "onuhqgjOUSL",  # Armenian
    "ᎠᎡᎢᎥᎩᎪᎫᎬᎳᎷᎻᎽᏀᏂᏃᏆᏏᏒᏕᏙᏚᏞᏟᏢᏦᏴ": "DRTiYAJEWMHYGhZIbRSVSLCPKB",  # Cherokee
    "ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ": "BPdDTGKJCZFMNLSRVHWXYAEIOU",  # Lisu
}
_LOOSE_LETTERS = {"кмтвнгпиш": "kmtbhrnuw", "εωχγσμβλ": "ewxyouBl"}
# Letters that no language uses: small capitals, script and reversed-out forms. Always replaced.
_SMALL = inverse(SMALL_CAPITALS) | dict(zip("ɑɡⱭꞬ", "agAG", strict=True))
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NEGATIVE = {chr(first + index): letter for first in (0x1F150, 0x1F170) for index, letter in enumerate(_ALPHABET)}
_BRACKETED = {chr(0x249C + index): letter.lower() for index, letter in enumerate(_ALPHABET)}  # NFKC: with brackets

_STRICT = {other: letter for others, letters in _LETTERS.items() for other, letter in zip(others, letters, strict=True)}
_LOOSE = {
    other: letter for others, letters in _LOOSE_LETTERS.items() for other, letter in zip(others, letters, strict=True)
}
STYLED = str.maketrans(_SMALL | _NEGATIVE | _BRACKETED)
_ANY = str.maketrans(_STRICT | _LOOSE)
_MAYBE = re.compile(f"[{''.join(_STRICT)}{''.join(_LOOSE)}]")
_OTHERS = re.compile("[\u0370-\u058f\u13a0-\u13fd\ua4d0-\ua4fd\uab70-\uabbf]")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_ALONE = 6  # look-alike letters that a text without Latin ones must have


def latin(text: str) -> str:
    """The text with look-alikes as Latin letters, in words that mix both and in words wholly of look-alikes.

    The latter stay as they are if more letters of the text belong to words that only the other alphabet can write.
    """
    if not _MAYBE.search(text):
        return text
    mixed: dict[str, str] = {}
    whole: dict[str, str] = {}
    alike = real = 0
    has_latin = False
    for word, count in Counter(_WORD.findall(text)).items():
        if word.isascii():
            has_latin = True
            continue
        own = _LATIN.findall(word)
        latin_letters = set(own)
        others = [letter for letter in word if letter not in latin_letters] if own else word
        has_latin = has_latin or bool(own)
        if own and others and all(letter in _STRICT or letter in _LOOSE for letter in others):
            mixed[word] = word.translate(_ANY)
        elif not own and all(map(_STRICT.__contains__, word)):
            whole[word] = word.translate(_ANY)
            alike += count * len(word)
        else:
            real += count * len(_OTHERS.findall(word))
    if alike > real and (has_latin or alike >= _ALONE):
        mixed |= whole
    return _WORD.sub(lambda word: mixed.get(word[0], word[0]), text) if mixed else text
