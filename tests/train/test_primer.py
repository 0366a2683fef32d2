"""Made-up messages, from which a guard from nothing learns to look up a policy."""

from __future__ import annotations

import dataclasses
import random

import pytest

pytest.importorskip("torch")

from guard.errors import DataError, PolicyError
from guard.policy import load
from guard.train.primer import made_up, own_words

RULES = load("mlcommons")
TEXTS = ["Kindly fetch four apples for supper before noon.", "Wash those windows with warm water.", "Too short."]
PLAIN = {word for text in TEXTS for word in text.split()}


def test_own_words_are_of_one_category_alone() -> None:
    own = own_words(RULES)
    assert tuple(own) == RULES.codes
    for category in RULES.categories:
        told = " ".join((category.name, category.definition, *category.includes)).lower()
        assert own[category.code]
        for word in own[category.code]:
            assert word in told
            assert [code for code, words in own.items() if word in words] == [category.code]


def test_a_message_holds_two_own_words_of_what_it_violates_and_nothing_else_of_the_policy() -> None:
    own, found = own_words(RULES), set()
    for said, item in made_up(TEXTS, RULES, 400, random.Random(1)):
        put_in = [word for word in said.judged.content.split() if word not in PLAIN]
        assert item.unsafe == bool(item.categories)
        assert len(put_in) == 2 * item.unsafe
        for code in item.categories or ():
            assert set(put_in) <= set(own[code])
            found.add(code)
        assert 4 <= len(said.judged.content.split()) - len(put_in) <= 8
    assert found == set(RULES.codes)


def test_half_of_the_messages_are_safe_and_the_same_seed_makes_the_same() -> None:
    made = list(made_up(TEXTS, RULES, 400, random.Random(1)))
    assert sum(item.unsafe for _, item in made) == pytest.approx(200, abs=30)
    assert made == list(made_up(TEXTS, RULES, 400, random.Random(1)))
    assert not list(made_up(TEXTS, RULES, 0, random.Random(1)))


def test_what_no_message_can_be_made_of_is_an_error() -> None:
    with pytest.raises(DataError, match=r"none of the 1 safe training texts has 4 words.*primer_steps=0"):
        list(made_up(["Too short."], RULES, 1, random.Random(1)))
    first = RULES.categories[0]
    twins = dataclasses.replace(RULES, categories=(first, dataclasses.replace(first, code="S2")))
    with pytest.raises(PolicyError, match="category S1 has no word of its own"):
        own_words(twins)
