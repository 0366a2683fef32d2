"""Mistyped text: still the same words to a reader, another text to a guard that knows words only as they are spelt."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from guard.train.augment.typing_errors import mistyped

SENTENCE = "please remember that every careful reader understands a hurried message without much trouble "
LETTERS = st.characters(categories=["Lu", "Ll", "Lo"])
words = st.lists(st.text(LETTERS, min_size=1, max_size=12) | st.sampled_from(SENTENCE.split()), min_size=1, max_size=20)
gaps = st.sampled_from([" ", "-", ", ", "\n", " 12 ", "_"])
seeds = st.integers(0, 2**32)


@given(st.text(max_size=300), seeds)
def test_the_same_seed_makes_the_same_errors(text: str, seed: int) -> None:
    assert mistyped(text, random.Random(seed)) == mistyped(text, random.Random(seed))


@given(words, gaps, seeds)
def test_a_word_changes_by_one_error_at_most_and_nothing_between_words_does(
    given: list[str], gap: str, seed: int
) -> None:
    made = mistyped(gap.join(given), random.Random(seed)).split(gap)
    assert len(made) == len(given)
    for before, after in zip(given, made, strict=True):
        lost, put = _difference(before, after)
        swapped = len(lost) == 2 and put == lost[::-1]
        assert swapped or (len(lost) <= 1 and len(put) <= 1), (before, after)


def _difference(before: str, after: str) -> tuple[str, str]:
    """What two words have beside their common beginning and end."""
    start = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    if start is None:
        start = min(len(before), len(after))
    before, after = before[start:], after[start:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return before, after


@given(seeds)
def test_many_words_change_and_most_of_the_letters_stay(seed: int) -> None:
    text = SENTENCE * 10
    made = mistyped(text, random.Random(seed))
    changed = sum(a != b for a, b in zip(text.split(), made.split(), strict=True))
    assert 0 < changed < 0.75 * len(text.split())


def test_every_kind_of_error_is_made() -> None:
    made = {mistyped("garden", random.Random(seed)) for seed in range(400)}
    assert {"agrden", "grden", "gaarden", "harden"} <= made
    assert all(re.fullmatch("[a-z]{5,7}", word) for word in made)


def test_numbers_short_words_and_signs_stay() -> None:
    text = "12345 is a no. of 3.14159 !?#%"
    assert all(mistyped(text, random.Random(seed)) == text for seed in range(200))
