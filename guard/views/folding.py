"""Folding: text without invisible characters, styled letters and look-alikes; and text hidden in invisible characters.

Much of what is removed here has legitimate uses: joiners in Persian, Indic scripts and emoji, variation selectors after
emoji and ideographs, full-width digits. `ordinary` removes just these, so that only the rest makes a difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from guard.views.confusables import STYLED, latin
from guard.views.signs import without_signs

_TAGS = "\U000e0020-\U000e007e"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    f"\U000e0000-\U000e0fff{_SELECTORS}"
)
_IDEOGRAPHS = "\u3400-\u9fff"
# Scripts that need no invisible character inside a word (unlike Arabic, Indic, Khmer, Mongolian …), and styled letters.
_SPELLED = (
    f"A-Za-z0-9\u00c0-\u024f\u0370-\u058f\u10a0-\u10ff\u1e00-\u1fff\u3041-\u30ff{_IDEOGRAPHS}\uac00-\ud7a3"
    "\uff10-\uff5a\U0001d400-\U0001d7ff"
)
_UNSEEN = re.compile(f"[{_INVISIBLE}]+")
_HARMLESS = re.compile(
    f"(?<=\U0001f3f4)[{_TAGS}]{{1,6}}\U000e007f"  # the flags of England, Scotland, Wales
    "|(?<=[\xc2\xc3\xe2])[\x80-\x9f]{1,2}"  # broken UTF-8
    f"|(?<=[{_IDEOGRAPHS}])[{_SELECTORS}](?![{_SELECTORS}])"
    f"|(?<![{_SPELLED}{_INVISIBLE}])[{_SELECTORS}\u200d](?![{_INVISIBLE}])"  # emoji
    f"|(?<![{_SPELLED}{_INVISIBLE}])[{_INVISIBLE}]++(?![{_TAGS}])"
    f"|(?<![{_INVISIBLE}])[{_INVISIBLE}]++(?![{_SPELLED}])"
)
_MARKS = "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20df\u20e4-\u20ff\ufe20-\ufe2f"
_MARK = re.compile(f"[{_MARKS}]+")
_STACK = re.compile(f"([{_MARKS}]{{2}})[{_MARKS}]++")  # no living spelling has three such marks on a letter
_PIECE = re.compile(r"(?s).{1,96}\S{0,32}\s?")
_HIDDEN = re.compile(f"[{_TAGS}]+")
_SMUGGLED = re.compile(f"[{_SELECTORS}]{{4,}}")  # a selector for each byte of the text
_SECRET = re.compile(f"[{_TAGS}]+|[{_SELECTORS}]{{4,}}")
_UNTAG = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_WHOLE_WORDS = 4  # tag characters that come together on average, where they stand in their place in the sentence
_LONG = 4  # characters of the longest form that is used; a few have 18
# Where Unicode has compatibility forms, roughly; the two caches below hold no others.
_COMPATIBLE = re.compile(
    "[\xa0-\xbe\u0132-\u0149\u017f\u01c4-\u01f3\u02b0-\u02e4\u02d8-\u02dd\u037a-\u03f9\u0587\u0675-\u0678\u0e33\u0eb3\u0edc"
    "\u0edd\u0f0c\u0f77\u0f79\u10fc\u1d2c-\u1dbf\u1e9a\u1e9b\u1fbd-\u33ff\ua69c\ua69d\ua770\ua7f2-\ua7f9\uab5c-\uab69"
    "\uf900-\ufaff\ufb00-\ufdff\ufe10-\ufe6b\uff01-\uffef\U0001d400-\U0001d7ff\U0001e030-\U0001e06d"
    "\U0001ee00-\U0001eeff\U0001f100-\U0001f2ff\U0001fbf0-\U0001fbf9]"
)
_STYLED = re.compile(f"[{''.join(map(chr, STYLED))}]")
_GROWTH = 1000  # characters that compatibility forms may add to a text


def ordinary(text: str) -> str:
    """The text in plain typography: legitimate special characters are replaced or removed, the rest stays."""
    if text.isascii():
        return text
    if _UNSEEN.search(text):
        text = _HARMLESS.sub("", text)
    return text if _STACK.search(text) else _composed(_mapped(text, _plain))


def folded(text: str) -> str:
    """The text as it looks: NFKC, nothing invisible, no stacks of marks, Latin letters for their look-alikes."""
    return text if text.isascii() and not _UNSEEN.search(text) else plainest(ordinary(text))


def plainest(text: str) -> str:
    """Of a text that is `ordinary`, the one that is `folded`."""
    text = _UNSEEN.sub("", text)
    if text.isascii():
        return text
    text = _STACK.sub(r"\1", text.translate(STYLED) if _STYLED.search(text) else text)
    return without_signs(latin(_MARK.sub("", _composed(_mapped(text, _form)))))


def secret(text: str) -> tuple[int, int] | None:
    """The range from the first to the last character that `hidden` may decode."""
    if text.isascii():
        return None
    first = last = None
    for last in _SECRET.finditer(text):
        first = first or last
    return None if first is None or last is None else (first.start(), last.end())


def hidden(text: str) -> str:
    """The text with tag characters and variation selectors decoded; empty if there are none.

    Where tags stand between visible letters one by one, two texts are interleaved; then only the hidden one is given.
    """
    if text.isascii() or not _SECRET.search(text):
        return ""
    text = _HARMLESS.sub(lambda match: "" if match[0][-1] == "\U000e007f" else match[0], text)
    runs = _HIDDEN.findall(text)
    if sum(map(len, runs)) >= max(2, _WHOLE_WORDS * len(runs)):
        return folded(text.translate(_UNTAG))
    if len(runs) > 1:
        return "".join(runs).translate(_UNTAG)
    shown = _SMUGGLED.sub(lambda match: _bytes(match[0]), text)
    return "" if shown == text else folded(shown)


def _bytes(selectors: str) -> str:
    """The text whose bytes variation selectors stand for; the selectors if it is none."""
    codes = bytes(code - 0xFE00 if code < 0xE0100 else code - 0xE0100 + 16 for code in map(ord, selectors))
    try:
        text = codes.decode()
    except UnicodeDecodeError:
        return selectors
    return text if text.isprintable() else selectors


def _mapped(text: str, form: Callable[[str], str | None]) -> str:
    """The text with the form of each character that has one, if that does not make it much longer."""
    forms = {ord(letter): plain for letter in _COMPATIBLE.findall("".join(set(text))) if (plain := form(letter))}
    changed = text.translate(forms) if forms else text
    return changed if len(changed) <= len(text) + _GROWTH else text


def _composed(text: str) -> str:
    """The text in NFC. In pieces, since Unicode's ordering of marks takes quadratic time in their number."""
    return "".join(unicodedata.normalize("NFC", piece) for piece in _PIECE.findall(text))


@lru_cache(None)  # no more than there are in `_COMPATIBLE`
def _form(letter: str) -> str | None:
    """The compatibility form of a character, None if it has none or a long one."""
    form = unicodedata.normalize("NFKC", letter)
    return None if form == letter or len(form) > _LONG else form


@lru_cache(None)
def _plain(letter: str) -> str | None:
    """What a character is in common typography: `...` for `…`, but a bold or a circled letter stays."""
    form = _form(letter)
    styled = form is not None and len(form) == 1 and form.isascii() and form.isalpha() and letter not in "ªºℹⅠⅤⅩ"
    return None if styled or ord(letter) in STYLED else form
