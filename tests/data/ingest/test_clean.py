"""Texts are repaired and judged fit; languages are told by the text where nobody else tells them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.ingest import clean, language
from guard.data.ingest.clean import Cleaning
from guard.data.row import UNKNOWN_LANGUAGE, Row


def row(prompt, response=None, **given_fields):
    kind = "prompt" if response is None else "response"
    return Row("one", kind, prompt, response, "safe", (), "en", **given_fields)


def cleaned(text, **wanted):
    made, reason = clean.clean(row(text), Cleaning(**wanted))
    return made.prompt, reason


@given(st.text(st.characters(codec=None)))
def test_clean_texts_encode_have_no_outer_space_and_stay_clean(text):
    once, _ = cleaned(text)
    assert once.encode().decode() == once
    assert once == once.strip()
    assert cleaned(once)[0] == once


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).filter(lambda text: "&" not in text))
def test_plain_text_is_left_alone(text):
    assert cleaned(text)[0] == text.strip()


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("the caf\u00c3\u00a9 is shut", "the caf\u00e9 is shut"),
        ("salt &amp; pepper", "salt & pepper"),
        ("cafe\u0301", "caf\u00e9"),
        ("one\r\ntwo", "one\ntwo"),
        ("bell\x07", "bell"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_repair(text, repaired):
    assert cleaned(text)[0] == repaired


@pytest.mark.parametrize(
    "text",
    [
        "\uff46\uff55\uff4c\uff4c width",
        "zero\u200bwidth",
        "\u0440\u0430yload",
        "\u201ccurly\u201d",
        "tag\U000e0041s",
        "\ufb01g",
    ],
)
def test_what_attacks_are_made_of_is_left_to_learn_from(text):
    assert cleaned(text)[0] == text


@pytest.mark.parametrize(
    ("text", "reason", "wanted"),
    [
        ("   ", clean.EMPTY, {}),
        ("a", clean.TOO_SHORT, {}),
        ("abc", clean.TOO_LONG, {"longest": 2}),
        ("?!", clean.NO_WORDS, {}),
        ("lost \ufffd\ufffd", clean.UNREADABLE, {}),
        ("ha" * 40_000, clean.REPETITIVE, {"longest": 100_000}),
        ("a hedge and a fig", None, {}),
        ("\u4f60\u597d", None, {}),
    ],
)
def test_reasons(text, reason, wanted):
    assert cleaned(text, **wanted)[1] == reason


def test_the_judged_text_decides_and_every_text_is_repaired():
    made, reason = clean.clean(row("", "yes &amp; no", turns=(("user", " a"), ("assistant", "b "))), Cleaning())
    assert (made.response, reason) == ("yes & no", None)
    assert made.turns == (("user", "a"), ("assistant", "b"))
    pair = Row("one", "pair", "Which?", "this one", "unlabelled", None, "en", rejected=" ")
    assert clean.clean(pair, Cleaning())[1] == clean.EMPTY


def test_languages():
    spanish = "\u00bfC\u00f3mo puedo podar el manzano del jard\u00edn antes de que llegue la primavera?"
    assert language.identify(spanish)[0] == "es"
    assert language.language_of(spanish, "en") == "es"  # surely not what is declared
    assert language.language_of("no", "en") == "en"  # too short to tell
    assert language.language_of("How do I prune the old apple tree behind the house?", "en") == "en"
    assert language.language_of("Wie schneide ich den Apfelbaum?", UNKNOWN_LANGUAGE) == "de"
    assert language.identify("12345 !!") == (UNKNOWN_LANGUAGE, 0.0)


def test_a_safe_text_that_repeats_a_violating_one_is_dropped():
    reasons = [clean.clean(row("A shed.", overlap=share), Cleaning(overlap=0.8))[1] for share in (0.0, 0.79, 0.8, 1.0)]
    assert reasons == [None, None, "repeats a violating text", "repeats a violating text"]


def test_emoji_alone_are_words_where_a_source_is_about_them():
    assert clean.clean(row("\U0001f339 \U0001f5d1"), Cleaning())[1] == "no words"
    assert clean.clean(row("\U0001f339 \U0001f5d1", symbols=True), Cleaning())[1] is None
