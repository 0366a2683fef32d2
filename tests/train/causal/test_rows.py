"""What an epoch of a causal guard shows: whole verdicts, the right windows, as often as the weights say, repeatably."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import policy
from guard.conversation import Conversation, Example
from guard.errors import DataError
from guard.policy import Policy
from guard.prompts.grammar import parse
from guard.prompts.prompt import Prompt, load_prompt
from guard.prompts.released import ReleasedPrompt
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import benign
from guard.train.causal.rows import (
    DETAILS,
    IGNORED,
    EpochRows,
    TrainingRow,
    answer,
    check_codes,
    count_windowed,
    draws,
    grouped,
    replay_rows,
    training_rows,
)
from tests.fixtures import tiny_causal, tiny_released

RULES = policy.load("minimal")
PLAIN = Augmentation(**{step.name: 0.0 for step in dataclasses.fields(Augmentation) if step.type == "Share"})
MAX_TOKENS = 1600
CODE_TOLD = re.compile(r"^(?:- )?([A-Z]\d): ", re.MULTILINE)


def example(number: int, text: str, *codes: str, weight: float = 1.0, **others: object) -> Example:
    label = "unsafe" if codes or others.get("categories", ()) is None else "safe"
    known = {"categories": frozenset(codes), **others}
    return Example(str(number), Conversation.of(text), label, **known, source="s", licence="l", language="en",
                   kind="prompt", weight=weight)  # type: ignore[arg-type]  # fmt: skip


ROWS = [
    example(0, "Please tell me how to bake bread."),
    example(1, "I will hit you.", "M1", weight=2.6),
    example(2, "Give me the password.", "M2", weight=0.4),
    example(3, "I will hit you, give me the password.", "M1", "M2"),
    example(4, "Something is wrong with this one.", categories=None),
    example(5, "Which train goes to the harbour?", weight=0.5),
]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prompt]:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_causal.tokenizer().save(str(path))
    return {detail: load_prompt(path, MAX_TOKENS, 64, detail) for detail in DETAILS}


def epoch_rows(prompts, examples=ROWS, settings=PLAIN, detail="full", seed=7, group=2, rules=RULES):
    taught = [TrainingRow(one, rules) for one in examples]
    return EpochRows(taught, prompts, detail, settings, benign(examples), seed, group)


def drawn(rows: EpochRows, epoch: int) -> list[dict[str, list[int]]]:
    rows.set_epoch(epoch)
    return [rows[place] for place in range(len(rows))]


def text(prompt: Prompt, ids: list[int]) -> str:
    return prompt.chat.tokenizer.decode(ids, skip_special_tokens=False)


def asked(prompt: Prompt, conversation: Conversation, rules: Policy = RULES) -> list[list[int]]:
    """The ids before the verdict, for each window."""
    return [[*prompt.prefix_ids(rules), *window.ids] for window in prompt.tokenize(conversation, rules).windows]


def learnt(row: dict[str, list[int]]) -> list[int]:
    """What the loss sees of a row: its end, and nothing before."""
    ids, labels = row["input_ids"], row["labels"]
    start = labels.count(IGNORED)
    assert labels == [IGNORED] * start + ids[start:]
    return ids[start:]


def test_without_augmentation_a_row_is_what_the_renderer_gives(prompts) -> None:
    shown = drawn(epoch_rows(prompts), 0)
    known = []
    for one in ROWS:
        (before,), verdict = asked(prompts["full"], one.conversation), answer(prompts["full"], one, RULES)
        known.append({"input_ids": [*before, *verdict], "labels": [IGNORED] * len(before) + [*verdict]})
    assert all(row in known for row in shown)
    assert len(shown) == round(sum(one.weight for one in ROWS))


@pytest.mark.parametrize(
    ("label", "categories", "undecided", "words"),
    [
        ("safe", set(), set(), "safe<|eot_id|>"),
        ("unsafe", {"M2", "M1"}, set(), "unsafe\nM1,M2<|eot_id|>"),
        ("unsafe", {"M2", "X9"}, set(), "unsafe\nM2<|eot_id|>"),
        ("unsafe", None, set(), "unsafe"),
        ("unsafe", set(), set(), "unsafe"),
        ("unsafe", {"M1"}, {"X9"}, "unsafe\nM1<|eot_id|>"),
        ("unsafe", None, {"M2"}, "unsafe"),
    ],
)
def test_the_loss_sees_the_verdict_alone(prompts, label, categories, undecided, words) -> None:
    known = None if categories is None else frozenset(categories)
    row = example(0, "unsafe\nM1", categories=known, undecided=frozenset(undecided))
    (shown,) = drawn(epoch_rows(prompts, [dataclasses.replace(row, label=label)]), 0)
    verdict = learnt(shown)
    assert text(prompts["full"], verdict) == words
    assert text(prompts["full"], shown["input_ids"][: -len(verdict)]).endswith("Verdict:\n")


def test_undecided_categories_leave_the_policy_or_the_verdict_open(prompts) -> None:
    row = example(0, "I will hit you.", "M1", undecided=frozenset({"M2"}))
    assert text(prompts["full"], list(answer(prompts["full"], row, RULES))) == "unsafe"  # M2 may belong in the list
    (shown,) = drawn(epoch_rows(prompts, [row]), 0)
    assert text(prompts["full"], learnt(shown)) == "unsafe\nM1<|eot_id|>"
    assert "M2" not in CODE_TOLD.findall(text(prompts["full"], shown["input_ids"]))


@pytest.mark.parametrize("name", tiny_released.TEMPLATES)
def test_released_guards_learn_their_own_verdicts(name: str, tmp_path: Path) -> None:
    made = load_prompt(tiny_released.write(tmp_path, name) / "tokenizer.json", 2048, 32, "names")
    assert isinstance(made, ReleasedPrompt)
    rules = made.template.policy
    row = example(0, "hello", *rules.codes[:1])
    (shown,) = drawn(epoch_rows({"names": made}, [row], detail="names", rules=rules), 0)
    assert learnt(shown) == [*made.grammar(rules).ids(rules.codes[:1])]
    assert [shown["input_ids"][: -len(learnt(shown))]] == asked(made, row.conversation, rules)


def test_rows_depend_on_seed_and_epoch_alone(prompts) -> None:
    settings = Augmentation(padding=0.5, padded=600)
    first, second = epoch_rows(prompts, settings=settings), epoch_rows(prompts, settings=settings)
    third = drawn(first, 3)
    drawn(first, 1)
    assert drawn(second, 3) == third == drawn(first, 3)
    assert drawn(second, 4) != third
    assert drawn(epoch_rows(prompts, settings=settings, seed=8), 3) != third


def test_every_row_ends_with_a_verdict_of_the_view_that_it_shows(prompts) -> None:
    rows = epoch_rows(prompts, settings=Augmentation(drop=0.6, flip=0.3, narrow=0.5), detail="short")
    end = text(prompts["full"], list(prompts["full"].chat.end))
    seen = Counter()
    for epoch in range(12):
        for row in drawn(rows, epoch):
            ids = learnt(row)
            assert len(row["input_ids"]) == len(row["labels"]) <= MAX_TOKENS
            verdict = text(prompts["full"], ids)
            before = text(prompts["full"], row["input_ids"][: -len(ids)])
            if verdict != "unsafe":  # all that is learnt of a row whose categories nobody knows
                assert verdict.endswith(end)
                told = tuple(dataclasses.replace(RULES.categories[0], code=code) for code in CODE_TOLD.findall(before))
                unsafe, codes = parse(verdict.removesuffix(end), dataclasses.replace(RULES, categories=told))
                assert unsafe == bool(codes)
                seen[codes] += 1
    assert () in seen
    assert any(len(codes) == 1 for codes in seen)
    assert any(len(codes) == 2 for codes in seen)


def test_the_detail_is_never_more_than_the_guard_will_be_told(prompts) -> None:
    definition = RULES.categories[0].definition
    for detail in ("names", "short"):
        rows = epoch_rows(prompts, settings=Augmentation(names_only=0.5, short=0.2), detail=detail)
        told = [definition in text(prompts["full"], row["input_ids"]) for row in drawn(rows, 0) + drawn(rows, 1)]
        assert any(told) == (detail == "short")


def test_a_long_safe_row_shows_its_windows_in_turn_and_an_unsafe_one_those_with_the_harm(prompts) -> None:
    filler = "The weather in the mountains is calm and clear today. " * 200
    pair = [example(0, filler), example(1, "I will hit you. " + filler, "M1")]
    assert count_windowed([TrainingRow(one, RULES) for one in pair], prompts["names"]) == 2
    assert count_windowed([TrainingRow(one, RULES) for one in ROWS], prompts["names"]) == 0
    rows = epoch_rows(prompts, pair, detail="names")
    shown = [row for epoch in range(12) for row in drawn(rows, epoch)]
    end = text(prompts["names"], list(prompts["names"].safe))
    safe = {tuple(row["input_ids"]) for row in shown if end in text(prompts["names"], row["labels"][-2:])}
    verdict = prompts["names"].grammar(RULES).ids((), safe=True)
    windows = [(*before, *verdict) for before in asked(prompts["names"], pair[0].conversation)]
    assert safe == set(windows)
    assert len(windows) > 2
    begun = [tuple(row["input_ids"]) for row in shown if tuple(row["input_ids"]) not in safe]
    assert 0 < len(set(begun)) <= 2  # where the harm begins, or where it ends
    assert all(len(row["input_ids"]) <= MAX_TOKENS for row in shown)


@given(st.lists(st.floats(0.01, 9.0), min_size=1, max_size=40), st.integers(0, 2**32))
def test_weights_are_rounded_up_or_down_and_their_sum_is_kept(weights: list[float], seed: int) -> None:
    total = max(1, round(sum(weights)))
    scaled = np.array(weights) * (total / sum(weights))
    found = draws(scaled, np.random.default_rng(seed))
    times = Counter(index for index, _ in found)
    assert len(found) == total == len(set(found))
    assert all(abs(times[index] - weight) < 1 + 1e-6 for index, weight in enumerate(scaled))


def test_on_average_a_row_comes_as_often_as_its_weight_says() -> None:
    weights = np.array([0.25, 0.5, 1.75, 2.5, 1.0])
    times = Counter(index for epoch in range(4000) for index, _ in draws(weights, np.random.default_rng(epoch)))
    assert [times[index] / 4000 for index in range(5)] == pytest.approx(list(weights), abs=0.03)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=60), st.integers(1, 9), st.booleans())
def test_groups_hold_neighbours_in_size_and_nothing_is_lost(sizes: list[int], group: int, longest: bool) -> None:
    order = grouped(sizes, group, random.Random(0), longest)
    assert sorted(order) == list(range(len(sizes)))
    whole = [order[at : at + group] for at in range(0, len(order) // group * group, group)]
    ranked = sorted(sizes)
    for members in whole:
        held = sorted(sizes[index] for index in members)
        assert any(ranked[at : at + group] == held for at in range(len(ranked)))
    if longest and whole:
        assert max(sizes[index] for index in whole[0]) == max(sizes[index] for members in whole for index in members)


def test_rows_that_say_nothing_are_counted_and_one_class_is_an_error() -> None:
    foreign = example(9, "Sell it.", "X9")
    open_to_doubt = dataclasses.replace(foreign, undecided=frozenset({"M2"}))  # safe, unless it violates M2
    taught, left = training_rows([*ROWS, foreign, open_to_doubt, example(8, "Hello.", weight=0.0)], RULES, "data")
    assert [row.example for row in taught] == ROWS
    assert (left.read, left.kept, left.foreign, left.weightless) == (9, 6, 2, 1)
    with pytest.raises(DataError, match=r"data: only unsafe rows to train on under policy 'minimal' \(of 1 rows\)"):
        training_rows([ROWS[1]], RULES, "data")
    with pytest.raises(DataError, match="data: no row to train on"):
        training_rows([foreign], RULES, "data")


def test_codes_that_the_policy_lacks_are_an_error_that_tells_the_policy_of_the_data(tmp_path: Path) -> None:
    check_codes(ROWS, RULES, tmp_path)
    strange = [*ROWS, example(9, "A secret canary.", "X9", "M1"), example(10, "Another one.", "X9")]
    with pytest.raises(DataError, match=r"lacks: X9 \(2 rows\); give the policy of the data") as raised:
        check_codes(strange, RULES, tmp_path)
    assert "canary" not in str(raised.value)
    built = '{"policy": {"id": "other", "version": "1", "digest": "0123456789abcdef"}}'
    (tmp_path / "manifest.json").write_text(built, encoding="utf-8")
    with pytest.raises(DataError, match=r"built for policy 'other' \(digest 0123456789ab\)"):
        check_codes(strange, RULES, tmp_path)


def test_replayed_rows_keep_their_policy_and_make_up_their_share(prompts) -> None:
    other = policy.load("mlcommons")
    again = [example(100 + n, f"Another rule, number {n}.", "S1") for n in range(20)]
    own = [TrainingRow(one, RULES) for one in ROWS]
    taught = replay_rows(again, other, own, share=0.25)
    assert {row.policy for row in taught} == {other}
    weights = [sum(row.example.weight for row in part) for part in (taught, own)]
    assert weights[0] / sum(weights) == pytest.approx(0.25)
    assert replay_rows([], other, own, share=0.25) == []
