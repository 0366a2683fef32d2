"""Segmentation: splits words that were run together and joins cut ones, by word frequency in English."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache

from guard.assets import asset

_RUN = re.compile(r"\S{12,}")
_LETTERS = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_EDGE = re.compile(r"(?<=[,.;:!?])(?=\w)|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_NO_PROSE = re.compile(r"://|www\.|[@\\_{}<>=|]|\.(?:com|org|net|html|py|js)\b|/\w+/")
_HYPHENATED = re.compile(r"(?<![\w-])[A-Za-z][a-z]*(?:-[a-z]+)+(?![\w-])")
_LEAST = 12  # letters of what can be several words
_DENSE = 12  # mean letters between spaces above which a text has too few spaces
_LONGEST = 20  # letters of one word
_FEWEST, _DENSE_FEWEST = 4, 3  # words that a run must have, since many a long word is two
_CAPITALS = 10  # letters to one capital, at least: names in programs have more capitals
_COST, _DENSE_COST = 2.4, 2.7  # a letter, at most, among words and in a dense text: prose has about 2, random letters 3
_UNKNOWN = 12.0  # cost of a letter that is in no word
_CAPITAL_INSIDE = re.compile(r"[a-z][A-Z]")
_CAPITALISED = re.compile(r"(?<![\w/@\\$])(?<!\w['’])#?[A-Za-z\d]++(?:['’][A-Za-z]++)*+(?![\w(=/\\$]|[.:@-][a-z\d])")
_CASED = re.compile(r"[A-Z]?[a-z]+(?:['’][a-z]+)?|[A-Z]['’][a-z]+|[A-Z]+(?![a-z])|\d+")
_LISTED = re.compile(r"(?<!\S)[A-Za-z'’]++([|·•_+~/:;,.*=-])(?:[A-Za-z'’]++\1){2,}+[A-Za-z'’]++")
_CAPITALISED_FEWEST, _TAG_FEWEST = 5, 3  # words of a run with capitals, and of one after a #
_COMMON, _COMMON_FEWEST, _COMMON_SHARE = 100, 2, 0.25  # rank of a word that prose is full of, and how many it has
_KNOWN_SHARE = 0.7  # of the words of a run, those that are in the list
_SURE_RANK = 2000  # rank of a word of few letters that is one for certain
_FEW_LETTERS, _WORDY_LEAST = 3, 8  # letters of such a word, and of words that are English
_WORDY_SHARE, _WORDY_COST = 0.7, 2.3  # share of the letters that are in words; cost a letter where there are no spaces
_WORD = re.compile("[a-z]+")
_PIECES = re.compile(r"(?<![^\s\"'(])[A-Za-z]{1,15}(?:[ \n*]{1,2}[A-Za-z]{1,15})+")
_PIECE_GAP = re.compile(r"([ \n*]{1,2})")
_CUT_FEWEST, _CUT_SHARE = 3, 0.15  # words that are cut in two by spaces, and their share of all
_CUT_LETTERS = 4  # of such a word, at least


@cache
def ranks() -> Mapping[str, int]:
    """English words by how common they are, the commonest first."""
    lines = asset("taxonomy/words/english.txt").read_text(encoding="utf-8").splitlines()
    return {word: rank for rank, word in enumerate(line for line in lines if line and not line.startswith("#"))}


def parted(text: str) -> str:
    """The text with spaces between words that were written as one, where several were."""
    if _CAPITAL_INSIDE.search(text):
        text = _without_capitals(text)
    if not _RUN.search(text):
        return text
    dense = len(text) > _DENSE * len(text.split())
    if dense:
        text = _LISTED.sub(lambda run: _unlisted(run[0], run[1]) if 2 * len(run[0]) >= len(text) else run[0], text)
    fewest, cost = (_DENSE_FEWEST, _DENSE_COST) if dense else (_FEWEST, _COST)
    return _RUN.sub(lambda run: _parted(run[0], fewest, cost), text)


def _without_capitals(text: str) -> str:
    """The text with spaces before the capitals inside of what is prose but for these, not names of a program."""
    candidates = [run for run in _CAPITALISED.findall(text) if _CAPITAL_INSIDE.search(run)]
    runs = {run: _CASED.findall(run) for run in candidates}
    if 2 * sum(map(len, candidates)) >= len(text) and _prose([word for words in runs.values() for word in words]):
        chosen = set(runs)
    else:
        chosen = {run for run, words in runs.items() if _is_sentence(words) or (run[0] == "#" and _is_tag(words))}
    return _CAPITALISED.sub(lambda run: " ".join(runs[run[0]]) if run[0] in chosen else run[0], text)


def _is_sentence(words: Sequence[str]) -> bool:
    return len(words) >= _CAPITALISED_FEWEST and _prose(words)


def _is_tag(words: Sequence[str]) -> bool:
    return len(words) >= _TAG_FEWEST and _known(words) >= _KNOWN_SHARE


def _unlisted(run: str, separator: str) -> str:
    """The words of a list without the marks between them, if they are prose."""
    words = run.split(separator)
    return " ".join(words) if _prose(words) else run


def _prose(words: Sequence[str]) -> bool:
    """Whether words are such as sentences are made of: known ones, and the commonest among them."""
    common = sum(ranks().get(word.lower(), _COMMON) < _COMMON for word in words)
    return common >= max(_COMMON_FEWEST, _COMMON_SHARE * len(words)) and _known(words) >= _KNOWN_SHARE


def _known(words: Sequence[str]) -> float:
    """The share of the words that are in the list."""
    known = sum(word.isdigit() or word.lower().partition("'")[0] in ranks() for word in words)
    return known / len(words) if words else 0.0


@cache
def sure_words() -> frozenset[str]:
    """The words of the list, and of the short ones only the common: the list has many abbreviations."""
    return frozenset(word for word, rank in ranks().items() if len(word) > _FEW_LETTERS or rank < _SURE_RANK)


def wordy(text: str) -> bool:
    """Whether the letters of a text are those of English words, with spaces between them or without."""
    words = _WORD.findall(text.lower())
    letters = sum(map(len, words))
    if letters < _WORDY_LEAST or 2 * letters < len(text):
        return False
    if letters <= _DENSE * len(words):
        known = sure_words()
        return sum(len(word) for word in words if len(word) > 1 and word in known) >= _WORDY_SHARE * letters
    return letters >= _LEAST and sum(_split(word)[1] for word in words) <= _WORDY_COST * letters


def _parted(run: str, fewest: int, most: float) -> str:
    words = _LETTERS.findall(run)
    letters = sum(map(len, words))
    if letters < _LEAST or 2 * letters < len(run) or _NO_PROSE.search(run):
        return run
    if sum(map(str.isupper, run)) * _CAPITALS > letters + _CAPITALS and not run.isupper():
        return run
    splits = [_split(word) for word in words]
    parts = sum(len(part) > 1 for split, _ in splits for part in split)
    if parts < max(fewest, len(words) + 2):  # else its marks split it well enough
        return run
    if sum(cost for _, cost in splits) > most * letters:
        return run
    remaining = iter(splits)
    return _EDGE.sub(" ", _LETTERS.sub(lambda _: " ".join(next(remaining)[0]), run))


def _split(word: str) -> tuple[list[str], float]:
    """The likeliest words that a run of letters consists of, and their cost: the logarithms of their ranks added up
    (Zipf's law), found by dynamic programming over the ends of words."""
    folded = word.lower().replace("’", "'")
    costs, prefixes = _costs(), _prefixes()
    best = [0.0, *(_UNKNOWN * end for end in range(1, len(folded) + 1))]
    starts = [-1, *range(len(folded))]
    for start in range(len(folded)):
        so_far = best[start]
        if so_far + _UNKNOWN < best[start + 1]:
            best[start + 1], starts[start + 1] = so_far + _UNKNOWN, start
        for end in range(start + 1, min(start + _LONGEST, len(folded)) + 1):
            piece = folded[start:end]
            cost = costs.get(piece)
            if cost is not None and so_far + cost < best[end]:
                best[end], starts[end] = so_far + cost, start
            if piece not in prefixes:
                break
    words, end = [], len(word)
    while end:
        words.append(word[starts[end] : end])
        end = starts[end]
    return words[::-1], best[-1]


@cache
def _costs() -> Mapping[str, float]:
    scale = math.log(len(ranks()))
    return {word: math.log((rank + 1) * scale) for word, rank in ranks().items()}


@cache
def _prefixes() -> frozenset[str]:
    """What longer words begin with, so that no more is looked up than can be a word."""
    return frozenset(word[:end] for word in ranks() for end in range(1, len(word)))


def unhyphenated(text: str) -> str:
    """The text without the hyphens that cut words: those whose parts make a commoner word than they are, and where
    there are several of these, all whose parts are not words themselves."""
    words = set(_HYPHENATED.findall(text))
    cut = {word for word in words if is_cut(word.split("-"), shortest=2)}
    if not cut:
        return text
    if len(cut) > 1 and 2 * len(cut) >= len(words):
        cut |= {word for word in words if not all(map(ranks().__contains__, word.lower().split("-")))}
    return _HYPHENATED.sub(lambda word: word[0].replace("-", "") if word[0] in cut else word[0], text)


def rejoined(text: str) -> str:
    """The text without the spaces, ends of lines or stars that cut words, if there are many."""
    words = set(_WORD.findall(text.lower()))
    strange = words - sure_words()
    if len(strange) < max(_CUT_FEWEST - 1, _CUT_SHARE * len(words)):
        return text
    joins = 0

    def join(run: re.Match[str]) -> str:
        nonlocal joins
        first, *rest = _PIECE_GAP.split(run[0])
        made = [first]
        fresh = True  # a word is joined once
        for gap, piece in zip(rest[::2], rest[1::2], strict=True):
            if fresh and _cuts(made[-1], piece, gap):
                made[-1] += piece
                joins, fresh = joins + 1, False
            else:
                made += [gap, piece]
                fresh = True
        return "".join(made)

    joined = _PIECES.sub(join, text)
    return joined if joins >= max(_CUT_FEWEST, _CUT_SHARE * len(words)) else text


def _cuts(before: str, after: str, gap: str) -> bool:
    """Whether a gap cuts a word: the pieces are one, and not both words themselves."""
    whole, pieces = f"{before}{after}".lower(), {before.lower(), after.lower()}
    known = sure_words()
    return len(whole) >= _CUT_LETTERS and whole in known and ("*" in gap or not pieces <= known)


def is_cut(parts: Sequence[str], shortest: int = 1) -> bool:
    """Whether several pieces are one word that was cut: together they make a commoner word than the rarest of those
    that have at least `shortest` letters."""
    known, pieces = ranks(), [part.lower() for part in parts if part]
    whole = known.get("".join(pieces).partition("'")[0])
    counted = [known.get(piece, len(known)) for piece in pieces if len(piece) >= shortest]
    return whole is not None and whole < max(counted, default=0)
