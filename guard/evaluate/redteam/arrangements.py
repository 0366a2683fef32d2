"""Attacks that rearrange a text: letters or words in another order, letters added, left out, parted and spread."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from guard.views.alphabets import LOWER

_WORD = re.compile(r"[^\W\d_]+")
_VOWEL = re.compile("[aeiou]", re.IGNORECASE)
_ONSET = re.compile("[^aeiouy]*", re.IGNORECASE)
_FILLER = [
    "quiet", "rivers", "carry", "small", "boats", "under", "green", "bridges", "while", "children", "feed", "the",
    "ducks", "near", "old", "stone", "houses",
]  # fmt: skip
_NEIGHBOURS = {
    letter: row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, letter in enumerate(row)
}
_SEPARATORS = "-._*/|~ "


def _words(change: Callable[[str], str]) -> Callable[[str, random.Random], str]:
    """Every word changed, in its place."""
    return lambda text, rng: _WORD.sub(lambda word: change(word[0]), text)


def pig_latin(word: str) -> str:
    onset = (_ONSET.match(word) or [""])[0]
    return f"{word[len(onset) :]}{onset}ay" if onset else f"{word}way"


def swapped(word: str) -> str:
    """The letters of each pair in turn."""
    return "".join(word[at : at + 2][::-1] for at in range(0, len(word), 2))


def shuffled(text: str, rng: random.Random) -> str:
    """The letters inside longer words in random order."""

    def change(match: re.Match[str]) -> str:
        word = match[0]
        return word[0] + "".join(rng.sample(word[1:-1], len(word) - 2)) + word[-1] if len(word) > 3 else word

    return _WORD.sub(change, text)


def mistyped(text: str, rng: random.Random, rate: float = 0.15) -> str:
    """Some letters as the one on the next key."""
    return "".join(
        rng.choice(_NEIGHBOURS[letter]) if letter in _NEIGHBOURS and rng.random() < rate else letter for letter in text
    )


def censored(text: str, rng: random.Random) -> str:
    """A star for a vowel of every longer word."""

    def change(match: re.Match[str]) -> str:
        word = match[0]
        places = [found.start() for found in _VOWEL.finditer(word) if found.start()]
        if len(word) < 4 or not places:
            return word
        at = rng.choice(places)
        return f"{word[:at]}*{word[at + 1 :]}"

    return _WORD.sub(change, text)


def varied(text: str, rng: random.Random) -> str:
    """Letters apart, with another separator each time."""
    return "   ".join("".join(letter + rng.choice(_SEPARATORS) for letter in word)[:-1] for word in text.split())


def by_first_letters(text: str, between: str, rng: random.Random) -> str:
    """Harmless words that begin with the letters of the text."""
    return between.join(_word_with(letter, rng) for letter in text.lower() if letter in LOWER)


def _word_with(letter: str, rng: random.Random) -> str:
    return f"{letter}{rng.choice(_FILLER)[1:]}"


def on_lines(text: str, rng: random.Random) -> str:
    """A line of harmless words for each letter, which is the first of it."""
    lines = [" ".join([_word_with(letter, rng), *rng.sample(_FILLER, 4)]) for letter in text.lower() if letter in LOWER]
    return "Read the first letter of each line.\n" + "\n".join(lines)


def rails(text: str, count: int) -> str:
    """The rail fence: written in zigzag over so many lines, and read by lines."""
    period = 2 * (count - 1)
    places = sorted(range(len(text)), key=lambda at: (min(at % period, period - at % period), at))
    return "".join(text[at] for at in places)


def columns(text: str, count: int = 5) -> str:
    """Written in rows of so many letters, and read by columns; each column is a line."""
    return "\n".join(text[start::count] for start in range(count))


def downwards(text: str) -> str:
    """Each word is a column, and the columns stand side by side."""
    words = text.split()
    height = max(map(len, words), default=0)
    return "\n".join(" ".join(word[row : row + 1] or " " for word in words).rstrip() for row in range(height))


def interleaved(text: str, other: Sequence[str]) -> str:
    """Letters of a harmless text between those of this one."""
    filler = "".join(other) * (len(text) // max(len("".join(other)), 1) + 1)
    return "".join(letter + between for letter, between in zip(text, filler, strict=False))


def camel(text: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in text.split())


def cut(text: str, rng: random.Random, between: str) -> str:
    """Longer words in two parts."""

    def change(match: re.Match[str]) -> str:
        word = match[0]
        at = rng.randrange(1, len(word)) if len(word) > 3 else len(word)
        return word[:at] + between * (at < len(word)) + word[at:]

    return _WORD.sub(change, text)


ARRANGEMENTS: Mapping[str, Callable[[str, random.Random], str]] = {
    "backwards": lambda text, rng: text[::-1],
    "words_backwards": lambda text, rng: " ".join(word[::-1] for word in text.split()),
    "word_order_reversed": lambda text, rng: " ".join(text.split()[::-1]),
    "word_order_shuffled": lambda text, rng: " ".join(rng.sample(text.split(), len(text.split()))),
    "pig_latin": _words(pig_latin),
    "letter_pairs_swapped": _words(swapped),
    "first_letter_last": _words(lambda word: word[1:] + word[0]),
    "ends_swapped": _words(lambda word: word[-1] + word[1:-1] + word[0] if len(word) > 1 else word),
    "letters_shuffled": shuffled,
    "letters_sorted": _words(lambda word: "".join(sorted(word.lower()))),
    "letters_doubled": _words(lambda word: "".join(letter * 2 for letter in word)),
    "letters_tripled": _words(lambda word: "".join(letter * 3 for letter in word)),
    "syllables_added": _words(lambda word: _VOWEL.sub(lambda vowel: f"ub{vowel[0]}", word)),
    "letter_x_between": _words("x".join),
    "without_vowels": lambda text, rng: _WORD.sub(lambda word: word[0][0] + _VOWEL.sub("", word[0][1:]), text),
    "vowels_as_stars": lambda text, rng: _VOWEL.sub("*", text),
    "one_star_a_word": censored,
    "next_key_typos": mistyped,
    "varied_separators": varied,
    "spaced_slashes": lambda text, rng: "/".join(text),
    "spaced_letters_wide": lambda text, rng: "   ".join(" ".join(word) for word in text.split()),
    "letters_on_lines": lambda text, rng: "\n".join(text),
    "lines_inside_words": lambda text, rng: cut(text, rng, "\n"),
    "spaces_inside_words": lambda text, rng: cut(text, rng, " "),
    "hyphens_inside_words": lambda text, rng: cut(text, rng, "-"),
    "stars_inside_words": lambda text, rng: cut(text, rng, "*"),
    "syllables_hyphenated": _words(lambda word: "-".join(word[at : at + 3] for at in range(0, len(word), 3))),
    "camel_case": lambda text, rng: camel(text),
    "snake_case": lambda text, rng: "_".join(text.split()),
    "dotted_words": lambda text, rng: ".".join(text.split()),
    "first_letters_of_words": lambda text, rng: by_first_letters(text, " ", rng),
    "first_letters_of_lines": on_lines,
    "rail_fence_2": lambda text, rng: rails(text, 2),
    "rail_fence_3": lambda text, rng: rails(text, 3),
    "by_columns": lambda text, rng: columns(text),
    "words_downwards": lambda text, rng: downwards(text),
    "every_second_letter": lambda text, rng: interleaved(text, _FILLER),
    "letters_with_dashes": lambda text, rng: "-".join(text.replace(" ", "")),
}
