"""Where sentences end while a text is written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.stream.sentences import Ends, ends, first_space, last_space

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
    assert last_end([text]) == end
    assert last_end([text], 8) == (None if end is None else end + 8)


def last_end(pieces: list[str], start: int = 0) -> int | None:
    found = Ends(start)
    for piece in pieces:
        found.push(piece)
    return found.last


@given(st.text("a.?'”。\n é", max_size=80), st.integers(1, 80))
def test_pieces_end_where_the_whole_does(text: str, size: int) -> None:
    """But for spaces that come later, which begin what follows."""
    whole, cut = last_end([text]), last_end([text[at : at + size] for at in range(0, len(text), size)])
    if whole is None or cut is None:
        assert cut is whole or not text[cut or 0 : whole].strip("”") or cut is None
    else:
        assert cut <= whole
        assert not text[cut:whole].strip(" \n”")


@pytest.mark.parametrize("text", [".", "''", ".'", "?!", "word", "\n", " ", ". ", "”", "。”"])
def test_the_time_is_linear_whatever_the_text(text: str) -> None:
    """By the character, and at once: quadratic, a million characters would take hours."""
    long = (text * 500_000)[:500_000]
    started = time.process_time()
    last_end(list(long))
    last_end([long])
    last_end([f".{long}"])
    assert time.process_time() - started < 20


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
