"""Padding: benign texts around a text that stays as it is."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given
from hypothesis import strategies as st

from guard.conversation import Conversation, Example, Message
from guard.train.augment import padding
from guard.train.augment.padding import Pool, benign, filler, pad

PIECES = ("When do I prune a fig?", "Moss", "Thank you, the hedge looks splendid now that it is cut.", "修剪玫瑰" * 30)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
seeds = st.integers(0, 2**32)


def example(conversation, label="safe", **changes):
    name = str(abs(hash(conversation)))
    kind = "response" if conversation.judged.role == "assistant" else "prompt"
    known = frozenset() if label == "safe" else None
    return dataclasses.replace(Example(name, conversation, label, known, "s", "l", "en", kind), **changes)


def made_of_pieces(text):
    """Whether a padding is whole pieces and one beginning of a piece, joined by one of the separators."""
    for separator in ("\n\n", "\n", " "):
        rest = text
        while whole := next((piece for piece in PIECES if rest.startswith(piece + separator)), None):
            rest = rest[len(whole + separator) :]
        if any(piece.startswith(rest) for piece in PIECES):
            return True
    return False


@given(texts, st.integers(0, 3000), st.sampled_from(padding.POSITIONS), seeds)
def test_the_text_is_whole_and_all_else_comes_from_the_pieces(text, length, position, seed):
    padded, start = pad(text, PIECES, length, position, random.Random(seed))
    assert padded[start : start + len(text)] == text
    assert len(padded) <= max(length, len(text))
    before, after = padded[:start], padded[start + len(text) :]
    assert made_of_pieces(before.removesuffix("\n\n").removesuffix("\n").removesuffix(" "))
    assert made_of_pieces(after.removeprefix("\n\n").removeprefix("\n").removeprefix(" "))
    if position == "start":
        assert start == 0
    elif position == "end":
        assert not after
    if length > len(text) + 100:
        assert len(padded) > length - 2 * (padding._WORD + 4)
        assert (bool(before), bool(after)) == {"start": (False, True), "middle": (True, True), "end": (True, False)}[
            position
        ]


@given(texts, st.integers(0, 3000), st.sampled_from(padding.POSITIONS), seeds)
def test_without_pieces_nothing_changes(text, length, position, seed):
    assert pad(text, (), length, position, random.Random(seed)) == (text, 0)


@given(st.integers(1, 500), seeds)
def test_a_filler_is_no_longer_than_asked_and_nearly_that_long(length, seed):
    made = filler(PIECES, length, " ", random.Random(seed))
    assert length - padding._WORD - 2 <= len(made) <= length


def test_the_pool_holds_what_is_known_to_be_safe_and_no_more():
    ask, reply = "How do I prune a fig?", "In late winter."
    rows = [
        example(Conversation.of(ask)),
        example(Conversation.of(ask, reply)),
        example(Conversation.of("Unlabelled prompt", "Safe reply")),
        example(Conversation.of("Bad prompt"), "unsafe"),
        example(Conversation.of("Bad prompt", "I cannot help.")),
        example(Conversation.of(ask, "Bad reply"), "unsafe"),
        example(Conversation.of("Half known"), undecided=frozenset({"S1"})),
        example(Conversation.of("Held out"), split="dev"),
        example(Conversation((Message("user", "Earlier"), Message("user", "Leans on what was said")))),
        example(Conversation((Message("tool", "A tool's output"),))),
        example(Conversation.of("Long " * 1000)),
    ]
    pool = benign(rows)
    assert pool == Pool((ask,), ((ask, reply),))
    assert benign(reversed(rows)) == pool
    assert pool.pieces("user") == pool.pieces("tool") == (ask,)
    assert pool.pieces("assistant") == (reply,)
    assert Pool((ask,)).pieces("assistant") == (ask,)
    assert ask not in repr(pool)


def test_a_pool_is_the_same_in_any_order_of_the_examples():
    names = [f"How do I prune tree {number}?" for number in range(20)]
    rows = [example(Conversation.of(name, reply)) for name in names for reply in (None, "Well.", "Not at all.")]
    pool = benign(rows)
    assert list(pool.texts) == sorted(names)
    assert list(pool.exchanges) == sorted((name, reply) for name in names for reply in ("Well.", "Not at all."))
    random.Random(1).shuffle(rows)
    assert benign(rows) == pool
