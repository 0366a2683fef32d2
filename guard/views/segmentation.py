"""Words that were run together or cut by hyphens, told apart by how common they are in English."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

from guard.assets import asset

_RUN = re.compile(r"\S{12,}")
_LETTERS = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_EDGE = re.compile(r"(?<=[,.;:!?])(?=\w)|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_NO_PROSE = re.compile(r"://|www\.|[@\\_{}<>=|]|\.(?:com|org|net|html|py|js)\b|/\w+/")
_HYPHENATED = re.compile(r"(?<![\w-])[A-Za-z][a-z]*(?:-[a-z]+)+(?![\w-])")
_LEAST = 12  # letters of what can be several words
_DENSE = 12  # letters to one stretch between spaces, from which on a text has too few spaces
_LONGEST = 20  # letters of one word
_FEWEST, _DENSE_FEWEST = 4, 3  # words that a run must have, since many a long word is two
_CAPITALS = 10  # letters to one capital, at least: names in programs have more capitals
_COST, _DENSE_COST = 2.4, 2.7  # a letter, at most, among words and in a dense text: prose has about 2, random letters 3
_UNKNOWN = 12.0  # cost of a letter that is in no word


@cache
def ranks() -> Mapping[str, int]:
    """English words by how common they are, the commonest first."""
    lines = asset("taxonomy/words/english.txt").read_text(encoding="utf-8").splitlines()
    return {word: rank for rank, word in enumerate(line for line in lines if line and not line.startswith("#"))}


def parted(text: str) -> str:
    """The text with spaces between words that were written as one, where several were."""
    if not _RUN.search(text):
        return text
    dense = len(text) > _DENSE * len(text.split())
    fewest, cost = (_DENSE_FEWEST, _DENSE_COST) if dense else (_FEWEST, _COST)
    return _RUN.sub(lambda run: _parted(run[0], fewest, cost), text)


def _parted(run: str, fewest: int, most: float) -> str:
    words = _LETTERS.findall(run)
    letters = sum(map(len, words))
    if letters < _LEAST or 2 * letters < len(run) or _NO_PROSE.search(run):
        return run
    if sum(map(str.isupper, run)) * _CAPITALS > letters + _CAPITALS and not run.isupper():
        return run
    found = [_split(word) for word in words]
    parts = sum(len(part) > 1 for split, _ in found for part in split)
    if parts < max(fewest, len(words) + 2):  # else its marks part it well enough
        return run
    if sum(cost for _, cost in found) > most * letters:
        return run
    splits = iter(found)
    return _EDGE.sub(" ", _LETTERS.sub(lambda _: " ".join(next(splits)[0]), run))


def _split(word: str) -> tuple[list[str], float]:
    """The likeliest words that a run of letters consists of, and their cost: the logarithms of their ranks added up
    (Zipf's law), found by dynamic programming over the ends of words."""
    known, folded = ranks(), word.lower().replace("’", "'")
    scale = math.log(len(known))
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(folded) + 1):
        options = [(best[end - 1][0] + _UNKNOWN, end - 1)]
        for start in range(max(0, end - _LONGEST), end):
            rank = known.get(folded[start:end])
            if rank is not None:
                options.append((best[start][0] + math.log((rank + 1) * scale), start))
        best.append(min(options))
    words, end = [], len(word)
    while end:
        start = best[end][1]
        words.append(word[start:end])
        end = start
    return words[::-1], best[-1][0]


def unhyphenated(text: str) -> str:
    """The text without the hyphens that cut words: those whose parts make a commoner word than they are, and where
    there are several of these, all whose parts are not words themselves."""
    found = set(_HYPHENATED.findall(text))
    cut = {word for word in found if _is_cut(word)}
    if not cut:
        return text
    if len(cut) > 1 and 2 * len(cut) >= len(found):
        cut |= {word for word in found if not all(map(ranks().__contains__, word.lower().split("-")))}
    return _HYPHENATED.sub(lambda word: word[0].replace("-", "") if word[0] in cut else word[0], text)


def _is_cut(word: str) -> bool:
    known, parts = ranks(), word.lower().split("-")
    if max(map(len, parts)) == 1:
        return False
    whole = known.get("".join(parts))
    return whole is not None and whole < max(known.get(part, len(known)) for part in parts if len(part) > 1)
