"""What an epoch shows of each example: a window that holds its harm, under the label that is known."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given
from hypothesis import strategies as st

from guard import assets
from guard.conversation import Conversation, Example, Message
from guard.policy import load
from guard.prompts.encoder import EncoderInput
from guard.prompts.window import Window
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import Pool
from guard.train.common.sampling import Sample, batches, holding, samples

RULES = load("mlcommons")
READER = EncoderInput.load(assets.default_bundle() / "tokenizer.json", 64, 16)
POOL = Pool(tuple(f"Some harmless words about garden number {n}, its trees and its fence." for n in range(50)))
NOTHING = Augmentation(
    refused=0, tool=0, history=0, mistyping=0, obfuscation=0, padding=0, machine=0, injection=0, document_context=0
)
STILL, PADDED = NOTHING, dataclasses.replace(NOTHING, padding=1.0)


def example(text: str, label: str, answer: str | None = None, number: int = 0) -> Example:
    codes = frozenset({"S1"}) if label == "unsafe" else frozenset()
    kind = "prompt" if answer is None else "response"
    return Example(f"row-{number}", Conversation.of(text, answer), label, codes, "here", "CC0-1.0", "en", kind)


def shown(examples: list[Example], settings: Augmentation, epoch: int = 0) -> list[Sample]:
    return samples(examples, READER, RULES, settings, 7, epoch, POOL)


def words(sample: Sample) -> str:
    return READER.tokenizer.decode(list(sample.row[0]))


def test_an_unsafe_text_in_long_padding_is_shown_where_its_words_are() -> None:
    rows = [example("a threat with zebras in it", "unsafe", number=n) for n in range(60)]
    made = shown(rows, PADDED)
    assert len(made) == len(rows)
    assert all("zebras" in words(sample) for sample in made)
    assert len({sample.row for sample in made}) > len(rows) // 2, "the padding differs from row to row"


def test_each_epoch_shows_other_padding_and_the_same_epoch_the_same() -> None:
    rows = [example("a threat with zebras in it", "unsafe", number=n) for n in range(20)]
    assert shown(rows, PADDED) == shown(rows, PADDED)
    assert shown(rows, PADDED) != shown(rows, PADDED, epoch=1)


def test_what_a_response_refuses_is_known_only_where_its_words_stand() -> None:
    refusal = example("Do it.", "safe", "I'm sorry, but I can't help with that.")
    reply = example("Do it.", "safe", "Sure, here are three steps to bake the bread that you asked for.", number=1)
    prompt = example("I'm sorry, but I can't help with that.", "safe", number=2)
    assert [sample.item.refusal for sample in shown([refusal, reply, prompt], STILL)] == [True, False, None]
    assert [sample.item.refusal for sample in shown([refusal], PADDED)] == [None]


def test_a_label_that_says_nothing_under_the_policy_is_not_shown() -> None:
    conversation = Conversation((Message("user", "some words"),))
    row = Example("x", conversation, "unsafe", frozenset({"X9"}), "here", "CC0-1.0", "en", "prompt")
    assert shown([row], STILL) == []


spans = st.tuples(st.integers(0, 300), st.integers(1, 120)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(spans, st.integers(20, 80), st.integers(1, 19))
def test_the_windows_that_hold_a_span_are_found_if_there_are_any(
    span: tuple[int, int], size: int, overlap: int
) -> None:
    made = [Window(RULES, (start,), (0,), start, start + size) for start in range(0, 450, size - overlap)]
    found = holding(made, span)
    whole = [window for window in made if window.start <= span[0] and span[1] <= window.end]
    assert list(found) == whole if whole else {window.ids for window in found} <= {window.ids for window in made}
    assert all(window.start < span[1] and span[0] < window.end for window in found)


@given(st.integers(1, 300), st.integers(0, 2**16))
def test_batches_keep_every_visit_once(count: int, seed: int) -> None:
    rows = shown([example("word " * (n % 40 + 1), "safe", number=n) for n in range(count)], STILL)
    cut = list(batches(rows, 256, 16, random.Random(seed)))
    assert sorted(sample.row for batch in cut for sample in batch) == sorted(sample.row for sample in rows)
    assert all(len(batch) <= 16 for batch in cut)
    assert all(len(batch) * max(len(sample.row[0]) for sample in batch) <= 256 for batch in cut)
