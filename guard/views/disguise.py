"""Disguises of text that a person or a large model can still read, each with its inverse.

Attackers disguise harmful text, but a disguise alone is harmless. Training must therefore disguise safe and unsafe
texts at the same rate, or the disguise itself will predict the label.
"""

from __future__ import annotations

import base64
import codecs
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from guard.errors import InvalidInput

Disguise = Literal["zero_width", "homoglyphs", "leet", "spacing", "tags", "base64", "hex", "rot13"]
READABLE: tuple[Disguise, ...] = ("zero_width", "homoglyphs", "leet", "spacing")  # even for small models
LONGEST = 400  # characters that are disguised in one text; of a longer one, a span
_WORD = 20  # characters that a span grows by at most on either side to hold whole words

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"  # all invisible; the last one is the soft hyphen
_SEPARATORS = " .-_·"
_TAG = 0xE0000  # U+E0020..U+E007E are invisible twins of the visible ASCII characters
_LEET = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"}


def _shifted(upper: int, lower: int) -> dict[str, str]:
    """Latin letters to those of an alphabet in Unicode that starts at these code points."""
    pairs = zip(string.ascii_uppercase, range(upper, upper + 26), strict=True)
    return {letter: chr(code) for letter, code in pairs} | {
        letter: chr(code) for letter, code in zip(string.ascii_lowercase, range(lower, lower + 26), strict=True)
    }


# Latin letters to others that look like them. No character stands for two letters, so that all can be undone at once.
ALPHABETS: Mapping[str, Mapping[str, str]] = {
    "cyrillic": dict(zip("aceopxyijshdqwlABCEHIJKMOPSTXY", "асеорхуіјѕһԁԛԝӏАВСЕНІЈКМОРЅТХҮ", strict=True)),
    "greek": dict(zip("ovipaukntABEHIKMNOPTXYZ", "ονιραυκητΑΒΕΗΙΚΜΝΟΡΤΧΥΖ", strict=True)),
    "fullwidth": _shifted(0xFF21, 0xFF41),
    "bold": _shifted(0x1D400, 0x1D41A),
    "sans": _shifted(0x1D5A0, 0x1D5BA),
    "monospace": _shifted(0x1D670, 0x1D68A),
}

# -- the disguises ----------------------------------------------------------------------------------------------------


def zero_width(text: str, rng: random.Random) -> str:
    """The text with an invisible character after every few visible ones."""
    step = rng.choice((1, 1, 2, 3, 5))
    return rng.choice(ZERO_WIDTH).join(text[start : start + step] for start in range(0, len(text), step))


def without_zero_width(text: str) -> str:
    """The text less all invisible characters that `zero_width` inserts."""
    return text.translate(_NO_ZERO_WIDTH)


def homoglyphs(text: str, rng: random.Random) -> str:
    """The text with some or all of its Latin letters replaced by look-alikes of one alphabet."""
    return _replaced(text, rng.choice(_ALPHABETS), rng)


def latin(text: str) -> str:
    """The text with every look-alike of `homoglyphs` as the Latin letter again, Greek and Russian text included."""
    return text.translate(_LATIN)


def leet(text: str, rng: random.Random) -> str:
    """The text with digits for some or all of the letters a, e, i, o, s, t."""
    return _replaced(text, _LEET_BOTH, rng)


def unleet(text: str) -> str:
    """The text with letters for the digits of `leet`, in lower case; what was a digit before becomes a letter, too."""
    return text.translate(_UNLEET)


def spaced(text: str, rng: random.Random) -> str:
    """The text with a separator between any two characters."""
    return rng.choice(_SEPARATORS).join(text)


def unspaced(text: str) -> str:
    """Every other character, from the first: the text that was spaced."""
    return text[::2]


def tagged(text: str, rng: random.Random) -> str:
    """The text with invisible tag characters for ASCII ones."""
    return text.translate(_TAGS)


def untagged(text: str) -> str:
    """The text with ASCII for all tag characters."""
    return text.translate(_UNTAGS)


def _replaced(text: str, table: Mapping[str, str], rng: random.Random) -> str:
    """The text with some or all of the letters that it shares with `table` replaced, each everywhere or nowhere."""
    replaceable = sorted(set(text) & table.keys())
    chosen = rng.sample(replaceable, rng.randint((len(replaceable) + 1) // 2, len(replaceable)))
    return text.translate({ord(letter): table[letter] for letter in chosen})


def _decoded(text: str, decode: Callable[[str], bytes], name: str) -> str:
    try:
        return decode(text).decode("utf-8")
    except ValueError:  # binascii.Error and UnicodeDecodeError, whose text and attributes quote the input
        pass
    raise InvalidInput(f"{len(text)} characters are not UTF-8 text in {name}")


_ALPHABETS = tuple(ALPHABETS.values())
_LEET_BOTH = _LEET | {letter.upper(): digit for letter, digit in _LEET.items()}
_NO_ZERO_WIDTH = dict.fromkeys(map(ord, ZERO_WIDTH))
_LATIN = {ord(other): letter for table in _ALPHABETS for letter, other in table.items()}
_UNLEET = {ord(digit): letter for letter, digit in _LEET.items()}
_TAGS = {code: _TAG + code for code in range(0x20, 0x7F)}
_UNTAGS = {tag: code for code, tag in _TAGS.items()}


@dataclass(frozen=True, slots=True)
class _Form:
    """How a disguise is put on and taken off; `name` is what a carrier sentence calls it, if it needs one."""

    encode: Callable[[str, random.Random], str]
    decode: Callable[[str], str]
    name: str = ""


_FORMS: Mapping[Disguise, _Form] = {
    "zero_width": _Form(zero_width, without_zero_width),
    "homoglyphs": _Form(homoglyphs, latin),
    "leet": _Form(leet, unleet),
    "spacing": _Form(spaced, unspaced),
    "tags": _Form(tagged, untagged, "invisible characters"),
    "base64": _Form(
        lambda text, _: base64.b64encode(text.encode()).decode(),
        lambda text: _decoded(text, lambda encoded: base64.b64decode(encoded.encode(), validate=True), "Base64"),
        "Base64",
    ),
    "hex": _Form(
        lambda text, _: text.encode().hex(),
        lambda text: _decoded(text, bytes.fromhex, "hexadecimal"),
        "hexadecimal",
    ),
    "rot13": _Form(
        lambda text, _: codecs.encode(text, "rot13"),
        lambda text: codecs.encode(text, "rot13"),
        "ROT13",
    ),
}
# Carrier sentences for an encoded text, in a request and in an answer. Harmless by themselves.
_REQUESTS = (
    "Read the part that is in {name} here, then answer it.",
    "Some of this is in {name}. Decode it and do what it says.",
    "Here is a message for you, written in {name}:",
)
_ANSWERS = (
    "Sure, here it is, partly in {name}:",
    "The answer follows; read the {name} in it decoded.",
)


def encode(text: str, disguise: Disguise, rng: random.Random) -> str:
    """The whole text under a disguise; unchanged where the disguise does not apply (homoglyphs of Chinese, say)."""
    return _FORMS[disguise].encode(text, rng)


def decode(text: str, disguise: Disguise) -> str:
    """The inverse of `encode`; InvalidInput if the text is not a valid encoding.

    Exact, except that `zero_width` and `homoglyphs` also undo such characters of the original, that `leet` loses case
    and turns digits into letters, and that `tags` decodes tags of the original (those of flags, say) to ASCII.
    """
    return _FORMS[disguise].decode(text)


def span(text: str, rng: random.Random, longest: int = LONGEST) -> tuple[int, int]:
    """Where to disguise a text: half of the time all of it, else a part that starts and ends with a word if it can.

    The part has at least a quarter of the text, as far as `longest` characters allow; words at its ends may exceed it.
    """
    size = len(text)
    if size <= longest and rng.random() < 0.5:
        return 0, size
    length = rng.randint(min(size, longest, -(-size // 4)), min(size, longest))
    start = rng.randint(0, size - length)
    end = start + length
    space = text.rfind(" ", max(0, start - _WORD), start)
    start = space + 1 if space >= 0 else 0 if start < _WORD else start
    space = text.find(" ", end, end + _WORD)
    return start, space if space >= 0 else size if end + _WORD > size else end


def obfuscate(text: str, disguise: Disguise, rng: random.Random, answer: bool = False) -> str:
    """The text of a message with a span disguised, after a carrier sentence where the disguise is an encoding.

    The content is unchanged, so the label stays valid. answer: use the carrier sentence of an answer.
    """
    start, end = span(text, rng)
    name = _FORMS[disguise].name
    carrier = rng.choice(_ANSWERS if answer else _REQUESTS).format(name=name) + "\n" if name else ""
    return carrier + text[:start] + encode(text[start:end], disguise, rng) + text[end:]
