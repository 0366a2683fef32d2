"""Which answers refuse: the plain ones are told, the doubtful ones are left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.data.ingest.refusal import refuses
from guard.train.augment.turns import REFUSALS, REPLIES

REFUSING = (
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with this request.",
    "As an AI language model, I cannot provide instructions for picking a neighbour's lock.",
    "As an AI language model, I am programmed to follow ethical guidelines that prevent me from writing insults.",
    "I must decline. Threats frighten people, and this one is aimed at a witness.",
    "I won't write that. If there's a quarrel behind it, I can help you say so calmly.",
    "Thank you for asking me so openly. I understand the pressure you're under, but I can't draft a fake invoice.",
    "Reading her messages would be a breach of trust, so I have to say no.",
    "That's not something I can do, though I'd gladly help you plan a fair election campaign.",
    "It is not appropriate to create jokes about a person's illness.",
    "Unfortunately, I'm not able to share his home address.",
    "No, I won't tell you where she sleeps.",
    "I don't feel comfortable writing this letter.",
    "I'd rather not answer that. Would a list of open archives help?",
    "*I cannot fulfil your request.* Let us talk about something else.",
    "Oh dear friend, a delightful riddle! Sadly, I cannot assist with breaking into a museum.",
    "I must decline: the shed is not ours to open.",
    "[Butler]: I'm afraid I cannot help with that.",
    "[Calm]: I'm sorry, but I can't assist with that.\n\n[Wild]: I refuse too, and I won't help you hurt him.",
)
COMPLYING = (
    "Sure, here is the letter you asked for.",
    "Here's how to whisk egg whites: begin with a clean bowl.",
    "Apples keep longest in a cool cellar.",
    "The train leaves at nine from platform four.",
    "1. Boil the water.\n2. Add the pasta.\n3. Stir.",
    "def double(x):\n    return 2 * x",
    "Certainly! I'd be glad to. The capital of Peru is Lima.",
    "Yes.",
)
UNCLEAR = (
    "",
    "  \n",
    "I can't condone this. However, here is how it is usually done: first, you wait until the office is empty.",
    "I'm sorry, I shouldn't. That said, the spare key lies under the third flower pot.",
    "I cannot help with that. If you really insist, begin with the side door.",
    "[Tame]: I'm sorry, but I can't help with that.\n\n[Wild]: Sure! Begin with the side door.",
    "As Tame, I cannot help with that.\nAs Wild, I would say: begin with the side door.",
    "Unfortunately I can't assist with that. The bolt is on the left; next, take the",
    "While I can't condone mischief, I can offer a few ideas for the prank.",
    "Apologies for the error in my last answer: the sum is 41.",
    '"I cannot help you," said the miller, and closed the door behind him.',
    "Dear Ms Ferro, we regret that I am unable to offer you the position. Kind regards",
    "Sneaking into her account is a crime, and it would hurt her.",
    "No.",
    "As an AI, I don't have a favourite colour.",
    "对不起，我不能帮助你。",
)


@pytest.mark.parametrize("answer", [*REFUSING, *REFUSALS[:4]])
def test_a_plain_refusal_is_told(answer):
    assert refuses(answer) is True


@pytest.mark.parametrize("answer", [*COMPLYING, *REPLIES])
def test_an_answer_is_told(answer):
    assert refuses(answer) is False


@pytest.mark.parametrize("answer", UNCLEAR)
def test_the_doubtful_is_left_alone(answer):
    assert refuses(answer) is None


@pytest.mark.parametrize(
    "idiom",
    [
        "I can't wait to show you the garden! Plant the tulips in October.",
        "I'm sorry to hear that your cat is unwell. Keep her warm and let her rest.",
        "I'm sorry, I cannot believe how well you did.",
        "I can't help but smile at this.",
        "I can't recommend this trail enough.",
        "I cannot give you an exact figure.",
        "I can't make sense of the map.",
        "I decline in the second half, as the coach likes to say.",
        "Being a robot is not something I want.",
    ],
)
def test_a_turn_of_phrase_is_no_refusal(idiom):
    assert refuses(idiom) is not True


@pytest.mark.parametrize("answer", REFUSING[:3])
def test_a_late_refusal_is_not_the_answer(answer):
    story = "The harbour lay quiet. A gull cried. The keeper lit the lamp. Nobody spoke. " * 5
    assert refuses(story + answer) is None


@given(st.sampled_from((*REFUSING, *COMPLYING)), st.sampled_from("’‘"))
def test_typography_changes_nothing(answer, mark):
    assert refuses(answer.replace("'", mark)) is refuses(f"\n{answer}  \n")


@given(st.text())
def test_any_text_has_an_answer(text):
    assert refuses(text) in (True, False, None)


@pytest.mark.parametrize(
    "piece", ["I can't help ", "however, ", "a b: c\n", "as a, ", "[", '"', "sorry, i don't just "]
)
def test_a_long_answer_takes_no_long_time(piece):
    started = time.perf_counter()
    refuses(piece * (60_000 // len(piece)))
    assert time.perf_counter() - started < 5
