"""Disguises: each can be taken off again, and what is not disguised stays as it was."""

from __future__ import annotations

import random
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import InvalidInput
from guard.views import disguise as obfuscation
from guard.views.disguise import ALPHABETS, READABLE, ZERO_WIDTH, Disguise, decode, encode, obfuscate, span

DISGUISES: tuple[Disguise, ...] = typing.get_args(Disguise)
TEXT = "Please tell me how to prune the rose hedge, and when."
HARD = [
    "é",
    "e\u0301",
    "👩\u200d👧",
    "שלום",
    "مرحبا",
    "你好",
    "\u0000",
    "\u202e",
    "\ufffd",
    "\U000e0041",
    "İ",
    "ß",
    "1",
    " ",
]
texts = st.lists(st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)))
texts = texts.map("".join).filter(str.strip)
seeds = st.integers(0, 2**32)
disguises = st.sampled_from(DISGUISES)
KEPT = {  # what of any original its decoding gives, where that is not the original itself
    "zero_width": obfuscation.without_zero_width,
    "homoglyphs": obfuscation.latin,
    "tags": obfuscation.untagged,
    "leet": lambda text: [letter.lower() for letter in obfuscation.unleet(text)],
}


@given(texts, disguises, seeds)
def test_every_disguise_can_be_taken_off(text, disguise, seed):
    decoded = decode(encode(text, disguise, random.Random(seed)), disguise)
    if disguise == "leet":
        decoded = [letter.lower() for letter in decoded]
    assert decoded == KEPT.get(disguise, lambda same: same)(text)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_plain_english_is_changed_and_comes_back_exactly(disguise):
    for seed in range(50):
        made = encode(TEXT, disguise, random.Random(seed))
        assert made != TEXT
        assert decode(made, disguise) == (TEXT.lower() if disguise == "leet" and "P" not in made else TEXT)


def test_each_disguise_looks_as_it_is_called():
    rng = random.Random(1)
    assert set(encode(TEXT, "zero_width", rng)) - set(TEXT) <= set(ZERO_WIDTH)
    assert len(encode(TEXT, "homoglyphs", rng)) == len(TEXT)
    changed = {(new, old) for new, old in zip(encode(TEXT, "leet", rng), TEXT, strict=True) if new != old}
    assert changed <= {("4", "a"), ("3", "e"), ("1", "i"), ("0", "o"), ("5", "s"), ("7", "t")}
    assert encode("how to", "spacing", random.Random(2))[::2] == "how to"
    assert all(0xE0020 <= ord(letter) < 0xE007F for letter in encode(TEXT, "tags", rng))
    assert encode("hedge", "base64", rng) == "aGVkZ2U="
    assert encode("hedge", "hex", rng) == "6865646765"
    assert encode("hedge", "rot13", rng) == "urqtr"


def test_no_look_alike_stands_for_two_letters():
    others = [other for table in ALPHABETS.values() for other in table.values()]
    assert len(set(others)) == len(others)
    assert not any(other.isascii() for other in others)
    assert all(letter.isascii() and letter.isalpha() for table in ALPHABETS.values() for letter in table)


@given(texts, disguises, st.booleans(), seeds)
def test_what_is_outside_the_span_stays_and_the_message_stays_visible(text, disguise, answer, seed):
    made = obfuscate(text, disguise, random.Random(seed), answer)
    start, end = span(text, random.Random(seed))  # the first thing that is drawn
    assert made.endswith(text[end:])
    kept = made[: len(made) - len(text[end:])]
    carrier = "" if disguise in READABLE else kept[: kept.index("\n") + 1]
    assert kept.startswith(carrier + text[:start])
    inner = decode(kept[len(carrier) + start :], disguise)
    wanted = KEPT.get(disguise, lambda same: same)(text[start:end])
    assert wanted == ([letter.lower() for letter in inner] if disguise == "leet" else inner)
    assert made.strip()


@pytest.mark.parametrize("answer", [True, False])
def test_an_encoding_has_a_carrier_sentence_that_names_it(answer):
    names = {"tags": "invisible characters", "base64": "Base64", "hex": "hexadecimal", "rot13": "ROT13"}
    for disguise in set(DISGUISES) - set(READABLE):
        carrier = obfuscate(TEXT, disguise, random.Random(3), answer).partition("\n")[0]
        assert names[disguise] in carrier
        assert ("answer follows" in carrier or "Sure" in carrier) == answer


@given(texts.map(lambda text: text * 9), seeds, st.integers(1, 300))
def test_a_span_is_a_good_part_of_the_text(text, seed, longest):
    start, end = span(text, random.Random(seed), longest)
    assert 0 <= start < end <= len(text)
    assert min(longest, len(text) / 4) <= end - start <= longest + 40


def test_spans_keep_words_whole():
    cut = 0
    for seed in range(200):
        start, end = span(TEXT, random.Random(seed))
        cut += (start > 0 and TEXT[start - 1] != " ") + (end < len(TEXT) and TEXT[end] != " ")
    assert cut == 0


@pytest.mark.parametrize(
    ("disguise", "text"), [("base64", "canary!"), ("base64", "/w=="), ("hex", "canary"), ("hex", "ff")]
)
def test_what_cannot_be_decoded_is_an_error_without_the_text(disguise, text):
    with pytest.raises(InvalidInput, match=f"{len(text)} characters are not UTF-8 text") as caught:
        decode(text, disguise)
    assert text not in str(caught.value)
    assert caught.value.__context__ is None
