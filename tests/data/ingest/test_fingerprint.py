"""Normalisation, hashes and 8-grams, against worked examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.ingest.fingerprint import digest, duplicate_key, grams, normalise, rule_key, text_key
from guard.data.row import Row, Rule


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


def keyed(text, **fields):
    return duplicate_key(Row("one", "text", text, None, "safe", (), "en", **fields))


def test_emoji_tell_texts_apart_where_a_source_is_about_them():
    roses, weeds = "I love \U0001f339.", "I love \U0001f33f"
    assert keyed(roses) == keyed(weeds) == keyed("I love")
    assert len({keyed(text, symbols=True) for text in (roses, weeds)}) == 2
    assert keyed(roses, symbols=True) == keyed("i LOVE \U0001f339!", symbols=True)
    assert keyed("I love", symbols=True) == keyed("I love")


def test_a_text_under_another_rule_is_another_row():
    one, two = Rule("Sheds", "Paint", "No pink."), Rule("Sheds", "Paint", "No red.")
    assert len({keyed("My shed."), keyed("My shed.", rule=one), keyed("my shed", rule=two)}) == 3
    assert len({rule_key(None), rule_key(one), rule_key(two)}) == 3
    assert rule_key(None) == 0
