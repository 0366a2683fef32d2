"""Markup inside words: HTML, Markdown and LaTeX, which a renderer removes, so that readers do not see the cut."""

from __future__ import annotations

import re

from guard.views.segmentation import is_cut

_ALONE = re.compile(
    r"<!--(?:(?!-->)[^<]){0,120}-->|/\*(?:(?!\*/)[^/]){0,120}\*/|</?[A-Za-z][^<>]{0,80}>|\{\}|&(?:shy|zwj|zwnj|ZeroWidthSpace);"
)
_IN_PAIRS = re.compile(r"\*{1,3}|_{1,3}|`|~~|\\[A-Za-z]{1,12}\{|[{}$]")
_MARKUP = re.compile(f"{_ALONE.pattern}|{_IN_PAIRS.pattern}")
_CUT = re.compile(
    rf"(?<![A-Za-z])(?:{_IN_PAIRS.pattern})?+[A-Za-z]++(?:(?:{_MARKUP.pattern})++[A-Za-z]++)++(?:{_IN_PAIRS.pattern})?+"
)
_AFTER_LETTER = re.compile(r"[A-Za-z][<*_`~\\{}$&/]")
_SINGLE = re.compile(r"<[A-Za-z][^<>]{0,80}>[^<>\s]{1,2}</[A-Za-z]{1,12}>")
_SINGLES = re.compile(rf"(?:{_SINGLE.pattern}){{3,}}+")  # a tag to each letter
_TAG = re.compile(r"<[^<>]{1,82}>")
_LEAST = 4  # letters of a word that was cut


def without_markup(text: str) -> str:
    """The text with words rejoined that markup cuts; all other markup stays."""
    if not _AFTER_LETTER.search(text):
        return text
    if "</" in text and _SINGLES.search(text):
        text = _SINGLE.sub(lambda letter: _TAG.sub("", letter[0]), text)
    return _CUT.sub(lambda word: _whole(word[0]), text)


def _whole(word: str) -> str:
    parts = _MARKUP.split(word)
    if len(parts) == 2 and not _ALONE.search(word):  # is_even, driver`s
        return word
    letters = "".join(parts)
    return letters if len(letters) >= _LEAST and is_cut(parts) else word
