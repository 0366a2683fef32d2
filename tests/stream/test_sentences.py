"""Where sentences end while a text is written."""

from __future__ import annotations

import pytest

from guard.stream.sentences import ends, first_space, last_end, last_space

LONG = "This is a sentence of some length"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (LONG, None),
        (f"{LONG}.", None),  # "3.5" may go on
        (f"{LONG}. ", len(LONG) + 2),
        (f"{LONG}.5 and so on", None),
        (f"{LONG}?!”\n\nNext", len(LONG) + 5),
        (f"{LONG}\n- a list", len(LONG) + 1),
        ("1. Mix", None),
        ("我不能帮助你做这件事情因为这是违法的而且非常非常危险。然后", 27),
        (f"{LONG}. {LONG}. x", 2 * len(LONG) + 4),
    ],
)
def test_the_last_end(text: str, end: int | None) -> None:
    assert last_end(text, 0) == end
    assert last_end(f"Before. {text}", 8) == (None if end is None else end + 8)


def test_all_ends_of_a_whole_text() -> None:
    text = f"{LONG}. {LONG}! Yes. {LONG}"
    assert ends(text) == [len(LONG) + 2, 2 * len(LONG) + 4, len(text)]
    assert ends("") == [0]
    assert ends(f"{LONG}.\n") == [len(LONG) + 2]


def test_words_stay_whole() -> None:
    assert last_space("one two three", 0) == 8
    assert last_space("one two three", 7) == len("one two three")
    assert first_space("one two three", 1, 10) == 4
    assert first_space("one two three", 8, 13) == 8
