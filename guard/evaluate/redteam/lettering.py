"""Attacks that write a text in other letters: styled ones, look-alikes, marks above and below, signs between."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping

from guard.views.alphabets import FANCY, LOWER, MIRRORED, SMALL_CAPITALS, TURNED

_MARKS = [chr(code) for code in range(0x300, 0x370)]
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
_EMOJI = "\U0001f600\U0001f525\U0001f49a\U0001f31f\U0001f388\U0001f680"
_SYMBOLS = "★✿♦☂✔♪"
_LEET = {
    "light": dict(zip("aeios", "43105", strict=True)),
    "medium": dict(zip("abegilostz", "4836!105+2", strict=True)),
    "heavy": dict(zip("abcdefghiklmnopqrstuvwxyz", [
        "/-\\", "8", "(", "|)", "3", "|=", "6", "|-|", "!", "|<", "1", "|\\/|", "|\\|", "0", "|*", "0,", "|2", "5", "7",
        "|_|", "\\/", "\\/\\/", "><", "`/", "2"], strict=True)),
}  # fmt: skip
_BOTH = LOWER + LOWER.upper()
_SUPERSCRIPT = dict(zip(LOWER, "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
_CHEROKEE = dict(zip("ABCDEGHIJKLMPRSTVWYZ", "ᎪᏴᏟᎠᎬᏀᎻᏆᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᎩᏃ", strict=True))
_ACCENTED = dict(zip("aeioucnsyz", "äéïôüçñšýž", strict=True))


def _from(*starts: int) -> Mapping[str, str]:
    """A block of Unicode with the capitals from the first code point on, and the small letters from the second."""
    made: dict[str, str] = {}
    for letters, start in zip((string.ascii_uppercase, LOWER), starts, strict=True):
        made |= {letter: chr(start + number) for number, letter in enumerate(letters)}
    return made


def _folded(table: Mapping[str, str]) -> Mapping[str, str]:
    """A table of small letters, or of capitals, for both."""
    return {letter: sign for own, sign in table.items() for letter in (own.lower(), own.upper())}


ALPHABETS: Mapping[str, Mapping[str, str]] = {
    "fullwidth": _from(0xFF21, 0xFF41),
    "bold": _from(0x1D400, 0x1D41A),
    "bold_italic": _from(0x1D468, 0x1D482),
    "script": _from(0x1D4D0, 0x1D4EA),
    "fraktur": _from(0x1D56C, 0x1D586),
    "double_struck": {**_from(0x1D538, 0x1D552), **dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True))},
    "monospace": _from(0x1D670, 0x1D68A),
    "circled": _from(0x24B6, 0x24D0),
    "circled_black": _from(0x1F150, 0x1F150),
    "squared": _from(0x1F130, 0x1F130),
    "squared_black": _from(0x1F170, 0x1F170),
    "bracketed": _from(0x249C, 0x249C),
    "regional_indicators": _from(0x1F1E6, 0x1F1E6),
    "small_capitals": _folded(SMALL_CAPITALS),
    "superscript": _folded(_SUPERSCRIPT),
    "cherokee": _folded(_CHEROKEE),
    "accented": _ACCENTED,
    **{f"fancy_{name}": _folded(table) for name, table in FANCY.items()},
}


def in_alphabet(text: str, alphabet: Mapping[str, str]) -> str:
    return text.translate({ord(letter): sign for letter, sign in alphabet.items()})


def turned(text: str) -> str:
    """The text upside down."""
    return in_alphabet(text.lower(), TURNED)[::-1]


def mirrored(text: str) -> str:
    return in_alphabet(text.lower(), MIRRORED)[::-1]


def stacked(text: str, rng: random.Random, most: int = 6) -> str:
    """Marks above and below every letter ("zalgo")."""
    return "".join(
        letter + "".join(rng.choices(_MARKS, k=rng.randint(1, most))) if letter.isalpha() else letter for letter in text
    )


def between_letters(text: str, signs: str, rng: random.Random) -> str:
    """A random sign between any two letters of a word."""
    return " ".join(rng.choice(signs).join(word) for word in text.split())


def inside_words(text: str, signs: str, rng: random.Random) -> str:
    """A random sign inside each word of some letters."""
    words = text.split()
    for index, word in enumerate(words):
        if len(word) > 3:
            at = rng.randrange(1, len(word))
            words[index] = word[:at] + rng.choice(signs) + word[at:]
    return " ".join(words)


def overridden(text: str) -> str:
    """The text backwards within a right-to-left override: it is displayed as it was."""
    return f"\u202e{text[::-1]}\u202c"


def _in(table: Mapping[str, str]) -> Callable[[str, random.Random], str]:
    return lambda text, rng: in_alphabet(text, table)


def _in_small(table: Mapping[str, str]) -> Callable[[str, random.Random], str]:
    return lambda text, rng: in_alphabet(text.lower(), table)


LETTERING: Mapping[str, Callable[[str, random.Random], str]] = {
    **{f"letters_{name}": _in(table) for name, table in ALPHABETS.items()},
    "upside_down": lambda text, rng: turned(text),
    "mirrored": lambda text, rng: mirrored(text),
    "zalgo": stacked,
    "strike_through": lambda text, rng: "".join(letter + "\u0336" for letter in text),
    "underlined": lambda text, rng: "".join(letter + "\u0332" for letter in text),
    **{f"leet_{name}": _in_small(table) for name, table in _LEET.items()},
    "bidi_controls": lambda text, rng: between_letters(text, _BIDI, rng),
    "bidi_override": lambda text, rng: overridden(text),
    "emoji_between_letters": lambda text, rng: between_letters(text, _EMOJI, rng),
    "emoji_inside_words": lambda text, rng: inside_words(text, _EMOJI, rng),
    "symbols_between_letters": lambda text, rng: between_letters(text, _SYMBOLS, rng),
    "symbols_for_spaces": lambda text, rng: rng.choice(_SYMBOLS).join(text.split()),
    "emoji_for_spaces": lambda text, rng: rng.choice(_EMOJI).join(text.split()),
}
