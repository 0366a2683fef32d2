"""Normalisation, hashes and 8-grams, against worked examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.ingest.fingerprint import digest, grams, normalise, text_key


@pytest.mark.parametrize(
    ("text", "normalised", "hashed"),
    [
        (
            "  How do I prune an apple-tree in EARLY March?? ",
            "how do i prune an apple tree in early march",
            "8f2874dff5cb5a7f",
        ),
        (
            "Straße_42: naïve café owners\n\tcount 3½ cups — twice!",
            "straße_42 naïve café owners count 3½ cups twice",
            "2bc25a7c861ec3ea",
        ),
        (
            "Please tell my neighbour's gardener that the blue watering can leaks",
            "please tell my neighbour s gardener that the blue watering can leaks",
            "d33fa0cfe5b1102c",
        ),
    ],
)
def test_worked_examples(text, normalised, hashed):
    assert normalise(text) == normalised
    assert digest(normalised) == hashed


def test_grams_of_the_worked_example():
    found = grams("please tell my neighbour s gardener that the blue watering can leaks")
    assert {digest(gram) for gram in found} == {
        "7d9ca3c9d885e9ae",
        "81fc22b376068a15",
        "a24a87fafe96e1c0",
        "3131ee0af17c320e",
        "c3ab654a0721c0e4",
    }


def test_fewer_than_eight_words_have_no_grams():
    assert grams("one two three four five six seven") == set()


@given(st.text())
def test_normalise_is_idempotent(text):
    once = normalise(text)
    assert normalise(once) == normalise(normalise(once))
    assert once == once.strip(" ")
    assert "  " not in once


def test_texts_without_letters_keep_their_own_key():
    assert text_key("?!") != text_key("...")
    assert text_key("Hello!") == text_key("hello")
