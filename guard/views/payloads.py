"""Payloads: Base64, hexadecimal, escapes, ROT13, upside-down and backwards text, decoded in place."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from guard.views.ciphers import deciphered
from guard.views.codec import BASE85, CODECS, SHORTEST, Codec
from guard.views.codes import fancy, spelled
from guard.views.english import english, in_order, likeness, stretches
from guard.views.escapes import escaped
from guard.views.leet import unleeted
from guard.views.orders import collected
from guard.views.packages import assembled
from guard.views.segmentation import wordy

DEPTH = 2  # nested encodings that are decoded
_READABLE = 0.85  # of a decoded text's characters, those that are letters, digits, spaces and common marks
_MARKS = frozenset(" \t\r\n.,;:?!'\"()-/+=%\\&#_*@<>")
_LOST = 0.1  # of a payload's bytes, those that may not be UTF-8
_DISTINCT = 4  # characters that a text has at least
_MORE_ENGLISH = 0.15  # likeness that decoding must add
_LOOK = 400  # characters that tell whether letters are strange
_GAIN = 8  # common pairs of letters that decoding must add (see `english.stretches`)


# Frequent words under ROT13 and backwards; a text without them is searched only if its letters are unusual.
_ROT13_WORDS = (" gur ", " naq ", " gb ", " bs ", " lbh ")
_REVERSED_WORDS = (" eht ", " dna ", " ot ", " uoy ")
_UPRIGHT = str.maketrans("ɐqɔpǝɟƃɓɥᴉıɾʞlɯuodbɹsʇnʌʍxʎz¿¡˙‾", "abcdefgghiijklmnopqrstuvwxyz?!._")
_TURNED = re.compile("[ɐɔǝɟƃɥɯɹʇʌʍʎ]")
_LINE, _VISIBLE = re.compile(r"[^\n]+"), re.compile(r"\S+")
_ROOM = 100  # bytes that a compressed payload may have beyond twice its own
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b")  # zlib, gzip


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text with its payloads decoded in place. `before` and `after` count the unchanged characters before the first
    and after the last payload. Longer than the text only where a payload was compressed."""

    text: str = field(repr=False)
    before: int
    after: int

    @property
    def alone(self) -> str:
        """From the first payload to the last."""
        return self.text[self.before : len(self.text) - self.after]


def decoded(text: str, depth: int = DEPTH) -> Decoded | None:
    """The text with its payloads decoded, those inside them too; None if it has none."""
    around: list[tuple[int, int]] = []
    for _ in range(depth):
        payloads = _payloads(text)
        if not payloads:
            break
        around.append((payloads[0][0], len(text) - payloads[-1][1]))
        parts, end = [], 0
        for start, stop, plain in payloads:
            parts += [text[end:start], plain]
            end = stop
        text = "".join(parts) + text[end:]
    if not around:
        return None
    before, after = map(min, zip(*around, strict=True))
    return Decoded(text, before, after)


def _payloads(text: str) -> list[tuple[int, int, str]]:
    """Start, end and decoded text of the payloads of one kind, the first kind that occurs."""
    for search in (
        _coded,
        _dense,
        escaped,
        spelled,
        fancy,
        _rotated,
        _turned,
        _backwards,
        assembled,
        unleeted,
        collected,
        deciphered,
    ):
        if payloads := [*search(text)]:
            return payloads
    return []


# -- bytes ------------------------------------------------------------------------------------------------------------

_KINDS = bytes(
    ord("h") if chr(code) in "0123456789abcdefABCDEF"
    else ord("a") if (chr(code).isalnum() and code < 128) or chr(code) in "+/_-"
    else ord(" ") if chr(code) in " \t\r\n,;:"
    else ord("x")
    for code in range(256)
)  # fmt: skip
_ALL_ALIKE = bytes.maketrans(b"h", b"a")
_RUN = b"a" * SHORTEST
_SPACED_CODES = (b"hh hh hh hh hh", b"hhhhhhhh hhhhhhhh", b"hhhhhhh hhhhhhh", b"hhh hhh")
_MARKED = ("\\x", "0x", "U+", "\\u{", "chr(", "Char", "CHR", "char(", "begin 6", "==", "xn--")


def _coded(text: str) -> Iterator[tuple[int, int, str]]:
    kinds = text.encode("latin-1", "replace").translate(_KINDS)
    if not (any(mark in text for mark in _MARKED) or _RUN in kinds.translate(_ALL_ALIKE)):
        kinds = kinds.replace(b"  ", b" ")
        if not any(shape in kinds for shape in _SPACED_CODES):
            return
    payloads: list[tuple[int, int, str]] = []
    for codec in CODECS:
        if not codec.gate(text):
            continue
        for match in codec.pattern.finditer(text):
            plain = _readable(match[0], codec)
            if plain is not None:
                payloads.append((match.start(), match.end(), plain))
    end = 0
    for start, stop, plain in sorted(payloads, key=lambda payload: payload[0]):
        if start >= end:
            yield start, stop, plain
            end = stop


def _dense(text: str) -> Iterator[tuple[int, int, str]]:
    """Payloads in Base85, which has so many signs that it stands alone."""
    for match in BASE85.pattern.finditer(text):
        plain = _readable(match[0], BASE85)
        if plain is not None:
            yield match.start(), match.end(), plain


def _readable(payload: str, codec: Codec) -> str | None:
    try:
        plain = _text(codec.decode(payload))
    except (ValueError, OverflowError, zlib.error):
        return None
    good = sum(map(str.isalnum, plain)) + sum(map(plain.count, _MARKS))
    if good < _READABLE * len(plain) or len(set(plain)) < _DISTINCT:
        return None
    doubtful = codec.doubtful or (payload.isalpha() and payload.islower())  # a long word of German, say
    return None if doubtful and not (english(plain) or wordy(plain)) else plain


def _text(payload: bytes) -> str:
    """UTF-8, or UTF-16 where every other byte is zero; ValueError if it is neither."""
    if payload[:2] in _COMPRESSED:
        payload = zlib.decompressobj(47).decompress(payload, 2 * len(payload) + _ROOM)
    if payload[1::2].count(0) > len(payload) // 4:
        return payload.decode("utf-16-le")
    if payload[::2].count(0) > len(payload) // 4:
        return payload.decode("utf-16-be")
    plain = payload.decode("utf-8", "ignore")
    if len(plain.encode()) < (1 - _LOST) * len(payload):
        raise ValueError
    return plain


# -- rewritten letters ------------------------------------------------------------------------------------------------


def _rotated(text: str) -> list[tuple[int, int, str]]:
    codes = text.encode("latin-1", "replace").lower()
    strange = codes.count(b"g") + codes.count(b"b") > codes.count(b"t") + codes.count(b"o")
    if not strange and not _has(text, _ROT13_WORDS):
        return []
    other = codecs.encode(text, "rot13")
    return [
        (start, end, other[start:end])
        for start, end in stretches(text, other, _GAIN)
        if _english(text[start:end], other[start:end])
    ]


def _turned(text: str) -> list[tuple[int, int, str]]:
    """Lines that are upside down, and so backwards."""
    if not _TURNED.search(text):
        return []
    lines = [line for line in _LINE.finditer(text) if _TURNED.search(line[0])]
    turned = [(line.start(), line.end(), line[0].translate(_UPRIGHT)[::-1]) for line in lines]
    return [(start, end, plain) for start, end, plain in turned if english(plain, prose=True) or wordy(plain)]


def _backwards(text: str) -> list[tuple[int, int, str]]:
    look = text[:_LOOK]
    strange = (
        "th" not in text and sum(map(str.isascii, look)) > len(look) // 2 and likeness(look[::-1]) > likeness(look)
    )
    if not strange and not _has(text, _REVERSED_WORDS):
        return []
    ranges = stretches(text, None, _GAIN)
    turned = [(start, end, _reversed(text[start:end])) for start, end in ranges]
    # Words alone: the pairs of letters in Spanish, Italian or Hindi backwards are those of English.
    return [(start, end, plain) for start, end, plain in turned if wordy(plain) and _english(text[start:end], plain)]


def _reversed(text: str) -> str:
    """The text read backwards, as a whole or, where that reverses the order of English words, each word."""
    plain = text[::-1]
    return plain if in_order(plain) else _VISIBLE.sub(lambda word: word[0][::-1], text)


def _has(text: str, words: tuple[str, ...]) -> bool:
    lower = f" {text.lower()} "
    return any(word in lower for word in words)


def _english(text: str, plain: str) -> bool:
    """Whether a payload is long enough and English, and much more so than the original (Polish, say)."""
    if len(text) < SHORTEST or len(set(plain)) < 2 * _DISTINCT:  # "no no no no"
        return False
    return likeness(plain) >= likeness(text) + _MORE_ENGLISH and (english(plain) or wordy(plain))
