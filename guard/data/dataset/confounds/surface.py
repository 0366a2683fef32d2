"""Surface features of a text: small numbers that say nothing about its meaning."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

HEAD = 2000  # characters from the start; the length and the end are those of the whole text
FEATURES = ("length", "end", "capitals", "digits", "punctuation", "beginning", "lines", "script")
_SCRIPTS = {  # by the blocks that hold most of their letters; letters elsewhere are Latin
    "Greek": "\u0370-\u03ff",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Indic": "\u0900-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Korean": "\u1100-\u11ff\uac00-\ud7af",
    "Japanese": "\u3040-\u30ff",
    "Han": "\u3400-\u9fff\U00020000-\U0003ffff",
}
_SCRIPT = re.compile("|".join(f"([{block}])" for block in _SCRIPTS.values()))
_ENDS = {end: place for place, ends in enumerate((".。।", "?？؟", "!！", ":："), 1) for end in ends}


def surface(text: str) -> tuple[int, ...]:
    """One small number per FEATURE; two texts with equal numbers look alike, whatever they say."""
    head = text[:HEAD]
    letters = sum(map(str.isalpha, head))
    digits = sum(map(str.isdigit, head))
    spaces = sum(map(str.isspace, head))
    marks = len(head) - letters - digits - spaces
    return (
        min(len(text).bit_length(), 15),
        _end(text.rstrip()[-1:]),
        _share(sum(map(str.isupper, head)), letters),
        _share(digits, len(head)),
        _share(marks, len(head)),
        _beginning(text.lstrip()[:1]),
        min((text.count("\n") + 1).bit_length(), 6),
        _script(head, letters),
    )


def surface_matrix(texts: Iterable[str]) -> npt.NDArray[np.uint8]:
    """[texts, features]"""
    return np.array([surface(text) for text in texts], dtype=np.uint8).reshape(-1, len(FEATURES))


def _share(part: int, whole: int) -> int:
    """0 for none, then one bin per doubling of the share from 1/64 on: 1 is below 1/64, 7 is half or more."""
    return 0 if not part else min(64 * part // max(whole, 1), 63).bit_length() + 1


def _end(last: str) -> int:
    if last in _ENDS:
        return _ENDS[last]
    return 5 if last.isalpha() else 6 if last.isdigit() else 7 if last else 0


def _beginning(first: str) -> int:
    if first.isalpha():
        return 1 if first.isupper() else 2 if first.islower() else 3
    return 4 if first.isdigit() else 5 if first else 0


def _script(text: str, letters: int) -> int:
    """0 without letters, 1 for Latin, else the index of the script of most letters."""
    if not letters:
        return 0
    if text.isascii():
        return 1
    counts = Counter(match.lastindex or 0 for match in _SCRIPT.finditer(text))
    counts[-1] = max(letters - counts.total(), 0)  # Latin
    most = max(counts, key=lambda script: (counts[script], script))
    return 1 if most == -1 else most + 1
