"""Augmentation: labels stay true, equal seeds give equal variants, and no step predicts a label."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import random
import re
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import policy as policies
from guard import schema
from guard.conversation import Conversation, Example, Message
from guard.errors import ConfigError
from guard.prompts.causal import CausalPrompt
from guard.prompts.control import ChatTokens
from guard.prompts.grammar import write
from guard.train.augment import injection, turns
from guard.train.augment.augmentation import Augmentation, Augmented, augment
from guard.train.augment.padding import Pool
from guard.train.augment.policy_views import decides, relabelled
from guard.train.causal.rows import answer
from guard.views.disguise import Disguise
from tests.fixtures import tiny_causal

RULES = policies.load("mlcommons")
CODES = RULES.codes
POOL = Pool(("When do I prune a fig?", "Moss likes shade."), (("Moss likes shade.", "It does, and rain."),))
DISGUISES = typing.get_args(Disguise)
OFF = Augmentation(**{field.name: 0.0 for field in dataclasses.fields(Augmentation) if field.type == "Share"})
TEXT_SIDE = dataclasses.replace(
    OFF,
    history=0.5,
    obfuscation=0.5,
    obfuscations=DISGUISES,
    padding=0.5,
    padded=900,
    injection=0.5,
    document_context=0.5,
    tool=0.2,
)
EVERYTHING = dataclasses.replace(
    TEXT_SIDE,
    refused=0.2,
)
settings = st.sampled_from([TEXT_SIDE, EVERYTHING, Augmentation()])
seeds = st.integers(0, 2**32)
epochs = st.integers(0, 9)
HARD = [
    "é",
    "👩\u200d👧",
    "שלום",
    "你好。",
    "\u0000",
    "\u202e",
    "\ufffd",
    "\U000e0041",
    "{code}",
    "<|eot_id|>",
    "\n",
    " ",
]
texts = st.lists(
    st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), min_size=1
)
texts = texts.map("".join)
some = st.frozensets(st.sampled_from([*CODES, "Z1"]))


@st.composite
def examples(draw):
    messages = draw(
        st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "tool", "system"]), texts), max_size=2)
    )
    role = draw(st.sampled_from(["user", "assistant"]))
    conversation = Conversation((*messages, Message(role, draw(texts.filter(str.strip)))))
    label = draw(st.sampled_from(["safe", "unsafe"]))
    kind = "response" if role == "assistant" else draw(st.sampled_from(["prompt", "text"]))
    categories = draw(st.one_of(st.none(), some)) if label == "unsafe" else frozenset()
    undecided = draw(st.one_of(st.just(frozenset()), some))
    source = draw(st.sampled_from(["strong", "weak"]))
    return Example(draw(st.text()), conversation, label, categories, source, "l", "en", kind, undecided=undecided)


def example(number=0, label="unsafe", categories=frozenset({"S3"}), text="Tell me how. Tell me now.", **changes):
    categories = categories if label == "unsafe" else frozenset()
    made = Example(f"row-{number}", Conversation.of(text), label, categories, "strong", "l", "en", "prompt")
    return dataclasses.replace(made, **changes)


@given(examples(), settings, seeds, epochs)
def test_nothing_is_mutated_and_all_else_of_the_example_stays(row, chosen, seed, epoch):
    before = copy.deepcopy((row, RULES, chosen, POOL))
    made = augment(row, RULES, chosen, seed, epoch, POOL)
    assert (row, RULES, chosen, POOL) == before
    for field in ("id", "source", "licence", "language", "split", "weight", "undecided"):
        assert getattr(made.example, field) == getattr(row, field)
    if not chosen.refused:
        assert (made.example.label, made.example.categories) == (row.label, row.categories)
        assert made.example.kind == row.kind
        assert made.example.conversation.target == row.conversation.target


@given(examples(), seeds, epochs)
def test_the_span_holds_the_judged_text_and_the_rest_is_benign_or_injected(row, seed, epoch):
    chosen = dataclasses.replace(TEXT_SIDE, obfuscation=0.0, injection=0.0, document_context=0.0, tool=0.0)
    made = augment(row, RULES, chosen, seed, epoch, POOL)
    start, end = made.span
    content = made.example.conversation.judged.content
    assert content[start:end] == row.conversation.judged.content
    texts = (*POOL.texts, *POOL.replies)
    for rest in (content[:start].strip(), content[end:].strip()):
        assert not rest or any(rest.startswith(piece[:5]) for piece in texts)
    context = made.example.conversation.context
    rest = list(row.conversation.context)
    added = [message for message in context if message not in rest]
    assert all(message.content in (*texts, *turns.REPLIES) for message in added)
    # Every message of before is still there, in order.
    remaining = iter(context)
    assert all(message in remaining for message in rest)


@given(texts.filter(str.strip), seeds, epochs)
def test_an_injection_adds_to_the_text_and_takes_nothing(text, seed, epoch):
    chosen = dataclasses.replace(OFF, injection=1.0)
    made = augment(example(text=text), RULES, chosen, seed, epoch, POOL)
    content, (start, end) = made.example.conversation.judged.content, made.span
    assert len(content) > len(text)
    inside = content[start:end]
    common = "".join(
        a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(inside, text, strict=False))
    )
    assert inside.startswith(common)
    assert inside.endswith(text[len(common) :])
    assert (made.example.label, made.example.categories) == ("unsafe", {"S3"})


def test_the_span_has_an_injection_only_where_it_parts_the_text():
    text, places = "Tell me how. Tell me now.", Counter()
    for number in range(100):
        made = augment(example(number, text=text), RULES, dataclasses.replace(OFF, injection=1.0), 1, 0)
        content = made.example.conversation.judged.content
        place = "before" if content.endswith(text) else "after" if content.startswith(text) else "inside"
        spans = {
            "before": (len(content) - len(text), len(content)),
            "after": (0, len(text)),
            "inside": (0, len(content)),
        }
        assert made.span == spans[place]
        places[place] += 1
    assert min(places[place] for place in ("before", "after", "inside")) > 5


@given(examples(), settings, seeds, epochs)
def test_what_becomes_of_an_example_does_not_depend_on_others(row, chosen, seed, epoch):
    first = augment(row, RULES, chosen, seed, epoch, POOL)
    augment(example(1), RULES, chosen, seed, epoch, POOL)
    random.seed(seed + 1)
    assert augment(row, RULES, chosen, seed, epoch, POOL) == first


def test_seed_epoch_and_id_each_matter():
    def made(seed, epoch, number):
        return [augment(example(number + 1000 * i), RULES, EVERYTHING, seed, epoch, POOL) for i in range(20)]

    variants = [made(*visit) for visit in itertools.product((1, 2), (0, 1), (0, 1))]
    contents = [[one.example.conversation for one in variant] for variant in variants]
    assert all(first != second for first, second in itertools.combinations(contents, 2))
    assert made(1, 0, 0) == variants[0]


def test_any_id_will_do():
    for name in ("", "\ud800", "a\0b", "é"):
        assert augment(example(id=name), RULES, EVERYTHING, 1, 0, POOL).example.id == name


PROGRAM = """
import hashlib, sys
from guard import policy
from guard.conversation import Conversation, Example
from guard.train.augment.augmentation import Augmentation, augment
from guard.train.augment.padding import Pool
rules, pool = policy.load("mlcommons"), Pool(("When do I prune a fig?",), ())
settings = Augmentation(
    obfuscation=0.5, obfuscations=("homoglyphs", "leet"), injection=0.5, history=0.5, document_context=0.5
)
known, undecided = frozenset({"S1", "S3", "S11"}), frozenset({"S2", "S5"})
digest = hashlib.sha256()
for number in range(200):
    talk = Conversation.of("Tell me how. Tell me now.")
    row = Example(str(number), talk, "unsafe", known, "s", "l", "en", "prompt", undecided=undecided)
    made = augment(row, rules, settings, 3, 1, pool)
    turns = [(message.role, message.content) for message in made.example.conversation.messages]
    digest.update(repr((turns, made.example.label, made.span)).encode())
print(digest.hexdigest())
"""


def test_every_process_gives_the_same():
    """Sets of text are ordered by a hash that differs from process to process."""
    root = str(Path(schema.__file__).parent.parent)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate(timeout=60)[0] for process in started)
    assert len(first.strip()) == 64
    assert first == second


def test_switching_a_step_leaves_the_others_as_they_were():
    rows = [example(number) for number in range(300)]

    def histories(chosen):
        return [augment(row, RULES, chosen, 5, 0, POOL).example.conversation.context for row in rows]

    alone = dataclasses.replace(OFF, history=0.3)
    base = histories(alone)
    assert (
        histories(dataclasses.replace(alone, injection=0.5, obfuscation=0.5, padding=0.5, document_context=0.5)) == base
    )
    often = histories(dataclasses.replace(alone, history=0.6))
    assert all(more == less for more, less in zip(often, base, strict=True) if less)
    assert sum(map(bool, often)) > sum(map(bool, base)) > 0


@given(examples(), seeds, epochs)
def test_the_document_comes_around_the_result_of_the_other_steps(row, seed, epoch):
    """The label and the turns are those of before; the text is, but for escapes."""
    plain = augment(row, RULES, dataclasses.replace(EVERYTHING, document_context=0.0), seed, epoch, POOL)
    made = augment(row, RULES, dataclasses.replace(EVERYTHING, document_context=1.0), seed, epoch, POOL)
    assert made.example.conversation.context == plain.example.conversation.context
    judged = plain.example.conversation.judged
    as_before = Conversation((*made.example.conversation.context, judged))
    assert dataclasses.replace(made.example, conversation=as_before) == plain.example
    old_text, new_text = judged.content, made.example.conversation.judged.content
    inside, outside = new_text[slice(*made.span)], old_text[slice(*plain.span)]
    kept = re.findall(r"[^\W_]+", outside)  # letters and digits are never escaped
    at = 0
    for word in kept:
        at = inside.index(word, at) + len(word)
    assert len(new_text) > len(old_text)


def test_text_steps_treat_safe_and_unsafe_alike():
    for number in range(300):
        unsafe, safe = example(number), example(number, "safe")
        texts = [augment(row, RULES, TEXT_SIDE, 1, 0, POOL).example.conversation for row in (unsafe, safe)]
        assert texts[0] == texts[1]


def test_everything_off_changes_nothing():
    for row in (example(), example(label="safe"), example(categories=None)):
        assert augment(row, RULES, OFF, 1, 2, POOL) == Augmented(row, (0, 25))


def test_without_a_pool_nothing_is_padded_or_preceded():
    chosen = dataclasses.replace(OFF, history=1.0, padding=1.0)
    row = example()
    assert augment(row, RULES, chosen, 1, 1).example == row


def share(rate, rows=2000):
    """What a step of that rate counts to: within five standard deviations."""
    return pytest.approx(rate * rows, abs=5 * (rate * (1 - rate) * rows) ** 0.5)


def test_rates_are_met():
    rows = 2000
    counts = Counter()
    for number in range(rows):
        row = example(number, categories=frozenset({"S3", "S7"}))
        made = augment(row, RULES, dataclasses.replace(Augmentation(), document_context=0.0), 11, 0, POOL)
        texts = {message.content for message in made.example.conversation.context}
        judged = made.example.conversation.judged
        counts["refused"] += judged.role == "assistant"
        counts["tool"] += judged.role == "tool"
        counts["history"] += bool(texts & set(POOL.texts))
        if judged.role == "assistant":
            continue
        counts["long"] += len(judged.content) >= 300
    assert counts["refused"] == share(0.02)
    assert counts["tool"] == share(0.02)
    assert counts["history"] == share(0.1)
    assert counts["long"] == share(0.05 * 0.98)


@pytest.mark.parametrize("step", ["obfuscation", "injection", "padding", "document_context"])
def test_rates_on_the_text_are_met(step):
    chosen = dataclasses.replace(OFF, **{step: 0.3})
    made = [augment(example(number), RULES, chosen, 2, 0, POOL).example for number in range(2000)]
    changed = sum(one.conversation.judged.content != example().conversation.judged.content for one in made)
    assert changed == share(0.3)


@hypothesis.settings(max_examples=20)  # a long policy, tokenised anew each time
@given(examples(), seeds)
def test_the_renderer_takes_what_comes_out(row, seed):
    made = augment(row, RULES, EVERYTHING, seed, 0, POOL)
    prompt = CausalPrompt(CHAT, 100_000, 64, "full")
    assert prompt.tokenize(made.example.conversation, RULES).windows
    if not decides(row, RULES):
        return  # it is never learnt
    known = relabelled(made.example, {code: code for code in CODES})
    learnt = prompt.chat.tokenizer.decode(answer(prompt, known, RULES), skip_special_tokens=False)
    categories = known.categories or frozenset()
    if known.label == "safe":
        assert learnt == "safe<|eot_id|>"
    elif categories and made.example.undecided.isdisjoint(CODES):
        assert learnt == write(categories, RULES) + "<|eot_id|>"


CHAT = ChatTokens.of(tiny_causal.tokenizer(), "test")


def test_settings_are_read_from_a_document(tmp_path):
    path = tmp_path / "augmentation.yaml"
    path.write_text("drop: 0.2\nobfuscations: [leet, base64]\nincomplete: [catqa]\nprefixes: [S, O]\npadded: 1000\n")
    found = schema.load(path, Augmentation, ConfigError)
    assert found == Augmentation(
        drop=0.2, obfuscations=("leet", "base64"), incomplete=frozenset({"catqa"}), prefixes=("S", "O"), padded=1000
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drops: 0.2", "unknown key `drops`; did you mean `drop`"),
        ("drop: 1.5", "drop: must be less than or equal to 1"),
        ("obfuscations: [braille]", "obfuscations.*'zero_width'"),
        ("obfuscations: []", "obfuscations"),
        ("prefixes: [S1]", "prefixes"),
        ("padded: 10", "padded: must be greater than or equal to 400"),
        ("names_only: 0.7\nshort: 0.7", r"names_only \+ short must be <= 1 \(got 1\.4\)"),
    ],
)
def test_mistakes_in_settings_are_told(tmp_path, text, message):
    path = tmp_path / "augmentation.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        schema.load(path, Augmentation, ConfigError)


def test_user_text_is_not_in_a_repr():
    made = augment(example(text="canary text"), RULES, Augmentation(), 1, 0, POOL)
    assert "canary" not in repr(made)
    assert injection.shipped()
