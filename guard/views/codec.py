"""Codecs: the patterns of encoded payloads, Base64 to Punycode, and their decoders."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST = 16  # characters of the shortest payload


@dataclass(frozen=True, slots=True)
class Codec:
    """The pattern of a payload and its decoder (ValueError if invalid). doubtful: accept only English. gate: a cheap
    test that the text may hold such a payload."""

    pattern: re.Pattern[str]
    decode: Callable[[str], bytes]
    doubtful: bool = False
    gate: Callable[[str], bool] = bool


_SKIPPED = re.compile(r"0x|\\x|[\s:,;-]", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_NUMBERS = re.compile(r"(?<!\d)\d{2,3}(?:[\s,;]{1,2}\d{2,3}){7,}+")
_CALL = r"(?:chr|chr\$|char|CHR|CHAR|String\.fromCharCode)\(\s*\d{1,7}\s*\)"
_POINT = r"(?:U\+|\\u\{)([0-9A-Fa-f]{2,6})\}?"
_POINTS = re.compile(_POINT)
# Possessive where a failure would be tried again from every character: all patterns take linear time.
CODECS = (
    Codec(
        re.compile(r"[01]{8}(?:[\s,]{0,2}[01]{8}){3,}+"),
        lambda text: _bits(_SKIPPED.sub("", text)),
    ),
    Codec(
        re.compile(r"(?<!\d)[01]{7}(?:[\s,]{1,2}[01]{7}){3,}+(?!\d)"),
        lambda text: bytes(int(bits, 2) for bits in _NUMBER.findall(text)),
        gate=lambda text: text.count("0") + text.count("1") > 20,
    ),
    Codec(
        re.compile(rf"{_CALL}(?:\s*[+.,&|]*\s*{_CALL}){{3,}}+"),
        lambda text: "".join(chr(int(number)) for number in _NUMBER.findall(text)).encode(),
    ),
    Codec(
        re.compile(rf"{_POINT}(?:[\s,]{{0,2}}{_POINT}){{3,}}+"),
        lambda text: "".join(chr(int(point, 16)) for point in _POINTS.findall(text)).encode(),
    ),
    Codec(_NUMBERS, lambda text: bytes(map(int, _NUMBER.findall(text))), doubtful=True),
    Codec(_NUMBERS, lambda text: bytes(int(number, 8) for number in _NUMBER.findall(text)), doubtful=True),
    Codec(
        re.compile(r"(?:0x|\\x)?[0-9A-Fa-f]{2}(?:[\s:,;-]{0,2}(?:0x|\\x)?[0-9A-Fa-f]{2}){7,}+"),
        lambda text: bytes.fromhex(_SKIPPED.sub("", text)),
    ),
    Codec(
        re.compile(rf"[A-Z2-7]{{{SHORTEST},}}+={{0,6}}|[a-z2-7]{{{SHORTEST},}}+={{0,6}}"),
        lambda text: base64.b32decode((bare := text.upper().rstrip("="))[: len(bare) // 8 * 8] + _last32(bare)),
    ),
    Codec(
        re.compile(rf"(?<![\w+/])\+A[A-Za-z0-9+/]{{{SHORTEST},}}+-?"),
        lambda text: _base64(text[1:].rstrip("-")),
        doubtful=True,
        gate=lambda text: "+A" in text,
    ),
    Codec(
        re.compile(r"(?<![\w.-])xn--[a-z0-9-]{2,60}(?![\w.-]*\w)"),
        lambda text: text.removeprefix("xn--").encode().decode("punycode").encode(),
        gate=lambda text: text.count("xn--") > 1,
    ),
    Codec(
        re.compile(r"begin 6[0-7]{2} \S{1,80}\n(?:[ -`]{1,61}\n){1,}+(?:`\n)?end"),
        lambda text: b"".join(map(binascii.a2b_uu, text.split("\n")[1:-1])),
    ),
    Codec(
        re.compile(r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{2,}={0,2} ){3,}+[A-Za-z0-9+/]{2,}={0,2}"),
        lambda text: b" ".join(base64.b64decode(part, validate=True) for part in text.split()),
        doubtful=True,
        gate=lambda text: text.count("=") > 2,
    ),
    Codec(
        re.compile(rf"={{1,2}}[A-Za-z0-9+/]{{{SHORTEST},}}|(?<![\w+/=-])[A-Za-z0-9+/]{{{SHORTEST},}}+(?![\w+/=-])"),
        lambda text: _base64(text[::-1]),
        doubtful=True,
    ),
    Codec(
        re.compile(rf"(?<![\w])[0-9a-f]{{{SHORTEST},}}+(?![\w])"),
        lambda text: bytes.fromhex(text[::-1]),
        doubtful=True,
    ),
    Codec(
        re.compile(
            rf"[A-Za-z0-9+/_-]{{{SHORTEST},}}+(?:\r?\n[A-Za-z0-9+/_-]{{4,}}+)*+(?:\r?\n[A-Za-z0-9+/_-]{{2,3}}=)?={{0,2}}"
        ),
        lambda text: _base64(text),
    ),
)
BASE85 = Codec(re.compile(rf"(?<!\S)[!-~]{{{SHORTEST},}}+(?!\S)"), lambda text: _base85(text), doubtful=True)
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]")
_DISTINCT_SIGNS = 4  # in a payload of Base85, at least


def _bits(bits: str) -> bytes:
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def _base64(payload: str) -> bytes:
    bare = "".join(payload.split()).rstrip("=").replace("-", "+").replace("_", "/")
    bare = bare[:-1] if len(bare) % 4 == 1 else bare  # a letter too many, in which no byte fits
    return base64.b64decode(bare + "=" * (-len(bare) % 4))


def _base85(payload: str) -> bytes:
    """Ascii85 or the Base85 of Git, if its first letters are text; ValueError if it has too few signs for it."""
    if len(set(_SIGNS.findall(payload))) < _DISTINCT_SIGNS:
        raise ValueError
    for decode in (base64.b85decode, base64.a85decode):
        try:
            if decode(payload[:10].encode()).decode().isprintable():
                return decode(payload.encode())
        except ValueError:
            continue
    raise ValueError


def _last32(bare: str) -> str:
    rest = bare[len(bare) // 8 * 8 :]
    fitting = max(length for length in (0, 2, 4, 5, 7) if length <= len(rest))  # a last group has no other length
    return rest[:fitting] + "=" * (8 - fitting) if fitting else ""
