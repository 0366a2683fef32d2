"""Escapes: characters written as %20, =20, \\x20, \\040, \\u0020, &#32; or &nbsp;.

URLs, mails and web pages escape what they cannot contain: spaces, marks, letters outside ASCII. `unescaped` decodes
these. Escaped letters that need no escape are payloads, listed by `escaped`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from guard.views.english import english

_FEWEST = 3  # escapes of a text that is read without them
_DEPTH = 2  # times that a text may be escaped over again
_HEX = "[0-9A-Fa-f]"


@dataclass(frozen=True)
class _Format:
    """An escape format. letters: escapes that no format requires; genuine: those that the format requires.

    doubtful: the escapes have other uses, so genuine ones are decoded only where the result is English.
    """

    one: re.Pattern[str]
    letters: re.Pattern[str]
    genuine: re.Pattern[str]
    decode: Callable[[str], str]
    doubtful: bool = False

    @cached_property
    def run(self) -> re.Pattern[str]:
        return re.compile(f"(?:{self.one.pattern})+")


def _utf8(run: str) -> str:
    return bytes.fromhex(run.replace("%", "").replace("=", "")).decode("utf-8", "replace")


def _backslash(run: str) -> str:
    plain = run.encode("ascii").decode("unicode_escape")
    try:
        return plain.encode("latin-1").decode()  # bytes, of which a character may need several
    except UnicodeError:
        return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # surrogates come in pairs


_FORMATS = {
    "%": _Format(
        one=re.compile(rf"%{_HEX}{{2}}"),
        letters=re.compile(rf"%[4-7]{_HEX}"),
        genuine=re.compile(rf"(?:%{_HEX}{{2}})+"),
        decode=_utf8,
    ),
    "\\": _Format(
        one=re.compile(rf"\\(?:u{_HEX}{{4}}|x{_HEX}{{2}}|[0-3][0-7]{{2}})"),
        letters=re.compile(rf"\\(?:u00[4-7]{_HEX}|x[4-7]{_HEX}|1[0-7]{{2}})"),
        genuine=re.compile(r"\\(?:u0020|u00[Aa]0|x20|040)"),
        decode=_backslash,
    ),
    "&": _Format(
        one=re.compile(rf"&(?:[A-Za-z]{{2,31}}|#\d{{1,7}}|#[xX]{_HEX}{{1,6}});"),
        letters=re.compile(rf"&#(?:[xX]0*[4-7]{_HEX}|0*(?:6[5-9]|[7-9]\d|1[01]\d|12[0-2]));"),
        genuine=re.compile(rf"&(?:[A-Za-z]{{2,31}}|#\d{{1,7}}|#[xX]{_HEX}{{1,6}});"),
        decode=html.unescape,
    ),
    "=": _Format(
        one=re.compile(rf"={_HEX}{{2}}"),
        letters=re.compile(rf"(?<=={_HEX}{{2}})=[4-7]{_HEX}"),  # a=40 alone is more often a number
        genuine=re.compile(rf"(?:=[89A-Fa-f]{_HEX}){{2,}}|(?<![\s=])=(?:2{_HEX}|3[A-Fa-f]|0[9ADad])(?=[^\s\d&;,])"),
        decode=_utf8,
        doubtful=True,
    ),
}


def escaped(text: str) -> list[tuple[int, int, str]]:
    """Start, end and plain text of all escapes of a text that escapes letters."""
    return sorted(
        (match.start(), match.end(), each.decode(match[0]))
        for sign, each in _FORMATS.items()
        if sign in text and _several(each.letters, text)
        for match in each.run.finditer(text)
    )


def unescaped(text: str) -> str:
    """The text with its escapes decoded, if it consists of them or has several that stand for no ASCII letter or digit.

    Never hides content: letters that are not escaped stay as they are.
    """
    for _ in range(_DEPTH):
        for sign, each in _FORMATS.items():
            if sign in text and _several(each.one, text):
                text = _decoded(text, each)
    return text


def _several(pattern: re.Pattern[str], text: str) -> bool:
    return sum(1 for _ in zip(range(_FEWEST), pattern.finditer(text), strict=False)) == _FEWEST


def _decoded(text: str, escapes: _Format) -> str:
    if not escapes.run.sub("", text).strip():
        plain = escapes.run.sub(lambda run: escapes.decode(run[0]), text)
        return plain if plain.strip() else text
    runs = escapes.genuine.findall(text)
    decoded = {run: plain for run in set(runs) if _separates(plain := escapes.decode(run))}
    if sum(run in decoded for run in runs) < _FEWEST:
        return text
    plain = escapes.genuine.sub(lambda run: decoded.get(run[0], run[0]), text)
    return plain if not escapes.doubtful or english(plain, prose=True) else text


def _separates(plain: str) -> bool:
    """Whether all characters are separators of words or outside ASCII."""
    return "\ufffd" not in plain and not any(
        letter.isascii() and (letter.isalnum() or not (letter.isprintable() or letter.isspace())) for letter in plain
    )
