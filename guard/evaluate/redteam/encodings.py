"""Attacks that encode a text: escapes, bytes in digits, ciphers and codes with a sign for each letter."""

from __future__ import annotations

import base64
import codecs
import html
import quopri
import random
import textwrap
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Mapping

from guard.views.alphabets import BRAILLE, KEYPAD, LOWER, MORSE, RADIO

_VISIBLE = "".join(map(chr, range(33, 127)))  # what ROT47 turns
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_TAP = "abcdefghijlmnopqrstuvwxyz"  # five by five, c for k
_FACES = "\U0001f600"  # and the 25 after it


def shifted(text: str, by: int) -> str:
    """Caesar's cipher: each Latin letter moved along the alphabet."""
    moved = LOWER[by:] + LOWER[:by]
    return text.translate(str.maketrans(LOWER + LOWER.upper(), moved + moved.upper()))


def atbash(text: str) -> str:
    """The last letter of the alphabet for the first, and so on."""
    return text.translate(str.maketrans(LOWER + LOWER.upper(), LOWER[::-1] + LOWER[::-1].upper()))


def rot47(text: str) -> str:
    """Visible ASCII moved by half of its number."""
    return text.translate(str.maketrans(_VISIBLE, _VISIBLE[47:] + _VISIBLE[:47]))


def next_key(text: str) -> str:
    """Each letter typed a key further to the right."""
    keys = str.maketrans("".join(_ROWS), "".join(row[1:] + row[0] for row in _ROWS))
    return text.lower().translate(keys)


def vigenere(text: str, key: str) -> str:
    shifts = [LOWER.index(letter) for letter in key]
    made, at = [], 0
    for letter in text:
        made.append(shifted(letter, shifts[at % len(shifts)]))
        at += letter.isascii() and letter.isalpha()
    return "".join(made)


def spelled(text: str, alphabet: Mapping[str, str], between: str, words: str) -> str:
    """Signs for letters; what the alphabet lacks stays."""
    return words.join(between.join(alphabet.get(letter, letter) for letter in word) for word in text.lower().split())


def bacon(text: str) -> str:
    """Five letters a or b for each letter."""
    letters = "".join(letter for letter in text.lower() if letter in LOWER)
    return " ".join(f"{LOWER.index(letter):05b}".translate(str.maketrans("01", "ab")) for letter in letters)


def _bytes(form: str, between: str = "") -> Callable[[str], str]:
    return lambda text: between.join(form.format(byte) for byte in text.encode())


def _units(form: str, between: str = "") -> Callable[[str], str]:
    return lambda text: between.join(form.format(ord(letter)) for letter in text)


def _encoded(encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda text: encode(text.encode()).decode("ascii")


def _quoted(text: str) -> str:
    """Quoted-printable with every letter escaped."""
    return "".join(f"={byte:02X}" for byte in text.encode())


def _uuencoded(text: str) -> str:
    data = text.encode()
    lines = [codecs.encode(data[at : at + 45], "uu").decode().split("\n")[1] for at in range(0, len(data), 45)]
    return "\n".join(["begin 644 a.txt", *lines, "`", "end"])


def _table(signs: Iterable[str]) -> Mapping[str, str]:
    return dict(zip(LOWER, signs, strict=True))


def _punycode(text: str) -> str:
    """Letters with an accent that no one would miss, as in the name of an internet domain."""
    words = (word.replace("e", "é").replace("o", "ö") for word in text.lower().split())
    return " ".join(word if word.isascii() else "xn--" + word.encode("punycode").decode() for word in words)


def _without_chance(encode: Callable[[str], str]) -> Callable[[str, random.Random], str]:
    return lambda text, rng: encode(text)


ENCODINGS: Mapping[str, Callable[[str, random.Random], str]] = {
    name: _without_chance(encode)
    for name, encode in {
        "url": lambda text: urllib.parse.quote(text),
        "url_letters": _bytes("%{:02X}"),
        "url_twice": lambda text: urllib.parse.quote(_bytes("%{:02X}")(text)),
        "html_decimal": _units("&#{};"),
        "html_hexadecimal": _units("&#x{:x};"),
        "html_text": lambda text: html.escape(text).replace(" ", "&nbsp;"),
        "unicode_escapes": _units("\\u{:04x}"),
        "unicode_braces": _units("\\u{{{:x}}}"),
        "code_points": _units("U+{:04X}", " "),
        "backslash_x": _bytes("\\x{:02x}"),
        "octal": _bytes("\\{:03o}"),
        "octal_spaced": _bytes("{:03o}", " "),
        "hex_spaced": _bytes("{:02x}", " "),
        "hex_prefixed": _bytes("0x{:02x}", ", "),
        "binary": _bytes("{:08b}", " "),
        "binary_joined": _bytes("{:08b}"),
        "binary_seven_bits": _bytes("{:07b}", " "),
        "decimal": _bytes("{}", " "),
        "decimal_commas": _bytes("{}", ","),
        "base16_reversed": lambda text: text.encode().hex()[::-1],
        "base32": _encoded(base64.b32encode),
        "base32_lower": lambda text: base64.b32encode(text.encode()).decode().lower(),
        "base64_reversed": lambda text: base64.b64encode(text.encode()).decode()[::-1],
        "base64_twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
        "base64_url": _encoded(base64.urlsafe_b64encode),
        "base64_words": lambda text: " ".join(base64.b64encode(word.encode()).decode() for word in text.split()),
        "base64_lines": lambda text: "\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), 20)),
        "base64_rot13": lambda text: base64.b64encode(codecs.encode(text, "rot13").encode()).decode(),
        "base64_hex": lambda text: base64.b64encode(text.encode().hex().encode()).decode(),
        "base64_zlib": lambda text: base64.b64encode(zlib.compress(text.encode())).decode(),
        "base85": _encoded(base64.b85encode),
        "ascii85": _encoded(base64.a85encode),
        "quoted_printable": _quoted,
        "quoted_printable_text": lambda text: quopri.encodestring(text.encode(), quotetabs=True).decode(),
        "uuencode": _uuencoded,
        "utf7": lambda text: "+" + base64.b64encode(text.encode("utf-16-be")).decode().rstrip("=") + "-",
        "punycode": _punycode,
        "caesar": lambda text: shifted(text, 3),
        "caesar_back": lambda text: shifted(text, 25),
        "atbash": atbash,
        "rot47": rot47,
        "next_key": next_key,
        "vigenere": lambda text: vigenere(text, "key"),
        "rot13_reversed": lambda text: codecs.encode(text, "rot13")[::-1],
        "morse": lambda text: spelled(text, MORSE, " ", " / "),
        "morse_signs": lambda text: spelled(text, MORSE, " ", "   ").replace(".", "•").replace("-", "−"),
        "braille": lambda text: spelled(text, BRAILLE, "", " "),
        "radio_alphabet": lambda text: spelled(text, RADIO, " ", " / "),
        "radio_alphabet_joined": lambda text: spelled(text, RADIO, " ", " "),
        "letter_numbers": lambda text: spelled(text, _table(map(str, range(1, 27))), "-", " "),
        "letter_numbers_commas": lambda text: spelled(text, _table(map(str, range(1, 27))), ",", " / "),
        "keypad": lambda text: spelled(text, KEYPAD, " ", "  "),
        "tap_code": lambda text: spelled(
            text.replace("k", "c"), {letter: f"{at // 5 + 1}{at % 5 + 1}" for at, letter in enumerate(_TAP)}, " ", "  "
        ),
        "bacon": bacon,
        "emoji_alphabet": lambda text: spelled(
            text, _table(chr(ord(_FACES) + number) for number in range(26)), "", " "
        ),
    }.items()
}
