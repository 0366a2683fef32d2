"""What counts as unread: letters that the vocabulary does not know, and nothing else."""

from __future__ import annotations

import pytest

from guard.moderator import Moderator
from guard.prompts.unread import letters, unread
from guard.verdict import Outcome


def flag(region: str) -> str:
    return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in region)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14", 4),  # Thai; marks are no letters
        ("b\u2c9fmb", 4),  # with a Coptic letter
        ("ok\U0001f44cgreat", 7),
        ("\u2813\u2811\u2807", 3),  # Braille
        ("\u2800", 0),  # a blank in Braille
        ("\u24d7\u24d8", 2),  # in circles
        ("\U0001f171\U0001f17e", 2),  # in squares
        (flag("DE"), 0),
        (flag("DE") + flag("FR") + flag("EU"), 0),
        (flag("BO") + flag("MB"), 4),  # no region is called MB
        (flag("BOMBS"), 5),
        (flag("A"), 1),
        ("1\ufe0f\u20e32\u20e3#\ufe0f\u20e3", 0),  # keycaps
        ("a1\u20e3", 1),
        ("\U0001f17f\ufe0f", 0),  # a parking place
        ("\U0001f44d\U0001f3fd", 0),
        ("\u2192\u2211\u266b\u2714\u2588", 0),
        ("\U0001f48c\U0001f524\u2122", 0),  # a love letter, an input symbol for letters, a trade mark
    ],
)
def test_what_is_a_letter(word: str, count: int) -> None:
    assert letters(word) == count


def test_a_share_or_a_single_letter_is_tolerated() -> None:
    assert unread({}, "abc") == set()
    assert unread({3: "\ua66e"}, "Chapter \ua66e") == set()
    assert unread({3: "\ua66e\ua66e"}, "Chapter \ua66e\ua66e") == {3}
    assert unread({3: "\ua66e\ua66e"}, "Chapter and verse and more \ua66e\ua66e") == set()
    assert unread({0: "\ua66e"}, "\ua66e"[:1]) == {0}, "all of a text is never tolerated"
    assert unread({0: "\U0001f642", 1: "\u2192"}, "\U0001f642 \u2192") == set()


@pytest.fixture
def moderator(shipped_guard: Moderator) -> Moderator:
    return shipped_guard


UNREAD = {
    "Braille": "⠓⠑⠇⠇⠕ ⠺⠕⠗⠇⠙",
    "flags that spell": " ".join(map(flag, ("WHO", "DOES", "KNOW", "IT"))),
    "Coptic among Latin": "hellⲟ wⲟrld, what ⲁ dⲁy",
    "Thai": "สวัสดีครับวันนี้",
    "Amharic": "እንደምን ነህ",
    "most of Chinese": "你好，今天天气很好，我们去散步吧！",
    "one sentence of a long text": "The committee met on Tuesday and talked about the new benches in the park. " * 40
    + "สวัสดีครับ " * 20,
}
READ = {
    "English": "Thanks so much 👍 — the naïve café's bill was £5 (½ price)! ✔ ☕ 😀",
    "German": "Schöne Grüße aus Köln, die Straße ist heute frei 😊",
    "French": "Ça va très bien, où êtes-vous ? L'œuvre coûte 5 € 🥐",
    "Russian": "Привет! Сегодня хорошая погода 🌳",
    "flags": f"We went to {flag('DE')} and {flag('IT')}{flag('ES')} last year",
    "keycaps": "Press 1\ufe0f\u20e3 or 2\ufe0f\u20e3 now",
    "emoji alone": "🎂🎉 ❤\ufe0f",
    "one rare letter": "Tell me about the letter ꙮ and how old manuscripts have used it in their texts.",
    "bold letters, which a view has plain": "𝐇𝐞𝐥𝐥𝐨 to all of you",
}


@pytest.mark.parametrize("name", UNREAD)
def test_letters_that_nobody_read_are_incomplete(moderator: Moderator, name: str) -> None:
    verdict = moderator.check(UNREAD[name])
    assert verdict.outcome is Outcome.INCOMPLETE
    assert verdict.coverage.tokens_seen < verdict.coverage.tokens_total


@pytest.mark.parametrize("name", READ)
def test_ordinary_text_with_emoji_is_complete(moderator: Moderator, name: str) -> None:
    verdict = moderator.check(READ[name])
    assert verdict.outcome is Outcome.SAFE
    assert verdict.coverage.tokens_seen == verdict.coverage.tokens_total
