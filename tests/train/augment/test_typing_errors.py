"""Mistyped text: still the same words to a reader, another text to a guard that knows words only as they are spelt."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from guard.train.augment.typing_errors import mistyped

SENTENCE = "please remember that every careful reader understands a hurried message without much trouble "


@given(st.text(max_size=300), st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_errors(text: str, seed: int) -> None:
    assert mistyped(text, random.Random(seed)) == mistyped(text, random.Random(seed))


@given(st.text(max_size=300), st.integers(0, 2**32))
def test_a_word_changes_by_one_letter_at_most_and_no_space_goes(text: str, seed: int) -> None:
    made = mistyped(text, random.Random(seed))
    assert len(made.split(" ")) == len(text.split(" "))
    for before, after in zip(text.split(" "), made.split(" "), strict=True):
        assert abs(len(before) - len(after)) <= before.count("") // 3  # a piece may hold several words, "one-two"


@given(st.integers(0, 2**32))
def test_many_words_change_and_most_of_the_letters_stay(seed: int) -> None:
    text = SENTENCE * 10
    made = mistyped(text, random.Random(seed))
    changed = sum(a != b for a, b in zip(text.split(), made.split(), strict=True))
    assert 0 < changed < 0.75 * len(text.split())


def test_numbers_short_words_and_signs_stay() -> None:
    text = "12345 is a no. of 3.14159 !?#%"
    assert all(mistyped(text, random.Random(seed)) == text for seed in range(200))
