"""Texts taken apart in code: literals that are concatenated, lists of letters, variables that stand for pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guard.views.segmentation import wordy

_QUOTED = r"\"[^\"\n]{0,400}\"|'[^'\n]{0,400}'"
_SEAM = re.compile(r"([\"'])\s*(?:\+|\.\.|\.|&|\|\||<<)\s*(?:\\?\n\s*)?([\"'])")
_LIST = re.compile(rf"[\[({{]\s*(?:{_QUOTED})(?:\s*,\s*(?:{_QUOTED})){{4,}}+\s*,?\s*[\])}}]")
_LITERAL = re.compile(_QUOTED)
_GIVEN = re.compile(
    rf"(?<![\w.])(?:(?:let|set|var|const|my|where|and|define)\s+)?[$@]?([A-Za-z_]\w{{0,20}})\s*(?::=|=|\bbe\b|\bis\b|\bmeans\b)\s*({_QUOTED});?",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?:=|be|is|means)\s*[\"']", re.IGNORECASE)
_NAMED = r"[A-Za-z_]\w{0,20}"
_SUM = re.compile(rf"(?<![\w.\"'])[$@]?{_NAMED}(?:\s*[+.&]\s*[$@]?{_NAMED})++(?![\w\"'])")
_NAMES = re.compile(_NAMED)
_FEWEST_GIVEN, _FEWEST_SEAMS = 2, 3
_SHORT = 3  # letters of a list's elements, at most, if they are pieces of words
_NAME = 2  # letters of a name that stands for a word in a sentence, at most
_SHORT_NAME = re.compile(rf"(?<![\w'])\w{{1,{_NAME}}}(?![\w'])")


def assembled(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and plain text of what the code in a text puts together."""
    if '"' not in text and "'" not in text:
        return
    several = len(_VALUE.findall(text)) >= _FEWEST_GIVEN
    given = [(match[1], match[2][1:-1]) for match in _GIVEN.finditer(text)] if several else []
    if len(given) >= _FEWEST_GIVEN and (plain := _substituted(text, dict(given))) is not None:
        yield 0, len(text), plain
        return
    if len(_SEAM.findall(text)) >= _FEWEST_SEAMS:
        yield from _concatenated(text)
    for found in _LIST.finditer(text):
        items = [item[1:-1] for item in _LITERAL.findall(found[0])]
        plain = "".join(items)
        if max(map(len, items)) <= _SHORT and wordy(plain):
            yield found.start(), found.end(), plain


def _concatenated(text: str) -> Iterator[tuple[int, int, str]]:
    """Literals with only a sign of concatenation between them, as one."""
    pattern = rf"(?:{_QUOTED})(?:\s*(?:\+|\.\.|\.|&|\|\||<<)\s*(?:\\?\n\s*)?(?:{_QUOTED}))+"
    for run in re.finditer(pattern, text):
        plain = "".join(item[1:-1] for item in _LITERAL.findall(run[0]))
        if wordy(plain):
            yield run.start(), run.end(), plain


def _substituted(text: str, values: dict[str, str]) -> str | None:
    """The sentence or the sum in which the names stand, with their values; None if there is neither."""
    sums = (_NAMES.findall(found[0]) for found in _SUM.finditer(text))
    total = next((names for names in sums if all(name in values for name in names)), None)
    if total is not None:
        plain = "".join(values[name] for name in total)
        return plain if wordy(plain) else None
    if max(map(len, values)) > _NAME:
        return None
    rest = _GIVEN.sub(" ", text)
    plain = _SHORT_NAME.sub(lambda name: values.get(name[0], name[0]), rest)
    return plain.strip() if plain != rest and wordy(plain) and len(plain) <= len(text) else None
