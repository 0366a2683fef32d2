"""Texture: a message in machine text is whole, and its characters are known."""

from __future__ import annotations

import csv
import html
import io
import json
import random
import re
import string

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.train.augment import document_context as module
from guard.train.augment.document_context import STRUCTURES, embed, enclose, surround
from guard.train.augment.padding import filler, pad

ALPHABET = st.characters(exclude_categories=["Cs"])
texts = st.lists(st.one_of(st.text(ALPHABET, max_size=8), st.sampled_from(['"', "\\", "<b>", "&", "|", "\n", "> "])))
texts = texts.map("".join).filter(bool)
seeds = st.integers(0, 2**64)
words = st.lists(st.text(string.ascii_letters, min_size=1, max_size=9), min_size=1)
INVERSES = {
    "json": lambda text: json.loads(f'"{text}"'),
    "string": lambda text: json.loads(f'"{text}"'),
    "html": html.unescape,
    "xml": html.unescape,
    "csv": lambda text: text.replace('""', '"'),
    "mail": lambda text: text.replace("\n> ", "\n"),
    "comment": lambda text: text.replace("\n# ", "\n"),
    "slashes": lambda text: text.replace("\n// ", "\n"),
    "commit": lambda text: text.replace("\n    ", "\n"),
    "markdown": lambda text: text.replace("<br>", "\n").replace("\\|", "|"),
}


@st.composite
def spans(draw):
    text = draw(texts)
    start = draw(st.integers(0, len(text)))
    return text, (start, draw(st.integers(start, len(text))))


@given(spans(), seeds)
def test_around_a_text_it_stays_as_it_is(spanned, seed):
    text, span = spanned
    made, (start, end) = surround(text, span, random.Random(seed))
    assert made[start:end] == text[slice(*span)]
    head, tail = made[: start - span[0]], made[end + len(text) - span[1] :]
    assert head + text + tail == made
    assert head or tail
    for side in (head, tail):
        assert not side or module.SHORTEST <= len(side.strip("\n")) <= module.LONGEST


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@hypothesis.settings(max_examples=20)
@given(spanned=spans(), seed=seeds)
def test_inside_a_structure_the_span_reads_as_before(name, spanned, seed):
    text, (first, last) = spanned
    made, (start, end) = enclose(text, (first, last), STRUCTURES[name], random.Random(seed))
    whole, (left, right) = enclose(text, (0, len(text)), STRUCTURES[name], random.Random(seed))
    assert whole == made
    assert left <= start <= end <= right
    if name != "markdown" or not re.search(r"<br>|\\", text):  # a table has no way to escape those
        undo = INVERSES.get(name, str)
        assert undo(made[left:right]) == text
        assert undo(made[left:start]) == text[:first] or text[first - 1] == "\n"
    assert len(made) - (right - left) <= 2 * module.LONGEST + 100


@given(words, st.sampled_from([" ", "\n", ", "]), seeds)
def test_the_words_of_the_text_are_in_the_span(wanted, separator, seed):
    text = separator.join(wanted)
    made, (start, end) = embed(text, (0, len(text)), random.Random(seed))
    inside = made[start:end]
    assert inside.startswith(wanted[0])
    assert inside.endswith(wanted[-1])
    at = 0
    for word in wanted:
        at = inside.index(word, at) + len(word)


@given(texts, seeds)
def test_a_structure_is_what_it_seems(text, seed):
    """A reader of the format gives the text back."""
    made, (start, end) = enclose(text, (0, len(text)), STRUCTURES["json"], random.Random(seed))
    opened = made.rindex('{"id"', 0, start)
    (value,) = [one for key, one in json.loads(made[opened : end + 2]).items() if key != "id"]
    assert value == text
    made, (start, end) = enclose(text, (0, len(text)), STRUCTURES["csv"], random.Random(seed))
    assert next(csv.reader(io.StringIO(made[start - 1 : end + 1], newline=""))) == [text]


def test_all_structures_and_both_sides_are_drawn():
    rng, text = random.Random(5), "How do I prune a fig?"
    made = [embed(text, (0, len(text)), rng) for _ in range(2000)]
    sides = [(bool(whole[:start]), bool(whole[end:])) for whole, (start, end) in made]
    assert min(sides.count(side) for side in ((True, False), (False, True), (True, True))) > 200
    assert sum("[quote=" in whole[:start][-40:] for whole, (start, _) in made) > 20
    assert all(whole[start:end] == text for whole, (start, end) in made)


# -- machine texts as padding -----------------------------------------------------------------------------------------

PIECES = ("When do I prune a fig?", "Moss likes shade.")


@given(st.integers(1, 3000), st.floats(0, 1), seeds)
def test_a_filler_with_machine_texts_is_no_longer_than_asked(length, share, seed):
    made = filler(PIECES, length, "\n", random.Random(seed), share)
    assert len(made) <= length
    assert filler(PIECES, length, "\n", random.Random(seed), share) == made


@given(texts, st.integers(0, 2000), seeds)
def test_a_text_padded_with_machine_texts_is_whole(text, length, seed):
    made, start = pad(text, PIECES, length, "middle", random.Random(seed), 0.5)
    assert made[start : start + len(text)] == text
    assert len(made) <= max(length, len(text))


def test_the_share_of_machine_texts_is_met():
    pieces = ("zzz" * 3,) * 2
    made = [filler(pieces, 4000, "\n\n", random.Random(seed), 0.5) for seed in range(30)]
    plain = sum(text.count(pieces[0]) for text in made)
    assert (
        4 < plain / len(made) < 20
    )  # a machine text has 340 characters on average, so that 4000 hold about 11 of each
    assert pieces[0] not in filler(pieces, 4000, "\n\n", random.Random(1), 1.0)
    assert set(filler(pieces, 4000, " ", random.Random(1), 0.0)) == {"z", " "}
