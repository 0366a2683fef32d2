"""The rows that a causal guard learns from, each with the policy that its label is of, and the verdict to learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from guard import policy
from guard.conversation import Conversation, Example
from guard.errors import DataError
from guard.policy import Category, Policy
from guard.prompts.prompt import load_prompt
from guard.train.causal.rows import TrainingRow, answer, check_codes, replay_rows, rule_rows, training_rows
from tests.fixtures import tiny_causal

RULES = policy.load("minimal")


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


@pytest.mark.parametrize(
    ("label", "categories", "undecided", "words"),
    [
        ("safe", set(), set(), "safe<|eot_id|>"),
        ("unsafe", {"M2", "M1"}, set(), "unsafe\nM1,M2<|eot_id|>"),
        ("unsafe", None, set(), "unsafe"),
        ("unsafe", set(), set(), "unsafe"),
        ("unsafe", {"M1"}, {"X9"}, "unsafe\nM1<|eot_id|>"),
        ("unsafe", {"M1"}, {"M2"}, "unsafe"),
        ("unsafe", None, {"M2"}, "unsafe"),
    ],
)
def test_the_verdict_to_learn_says_no_more_than_is_known(tmp_path: Path, label, categories, undecided, words) -> None:
    tiny_causal.tokenizer().save(str(tmp_path / "tokenizer.json"))
    prompt = load_prompt(tmp_path / "tokenizer.json", 1600, 64)
    known = None if categories is None else frozenset(categories)
    row = dataclasses.replace(example(0, "x", categories=known, undecided=frozenset(undecided)), label=label)
    assert prompt.chat.tokenizer.decode(list(answer(prompt, row, RULES)), skip_special_tokens=False) == words


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


def test_replayed_rows_keep_their_policy_and_make_up_their_share() -> None:
    other = policy.load("mlcommons")
    again = [example(100 + n, f"Another rule, number {n}.", "S1") for n in range(20)]
    own = [TrainingRow(one, RULES) for one in ROWS]
    taught = replay_rows(again, other, own, share=0.25)
    assert {row.policy for row in taught} == {other}
    weights = [sum(row.example.weight for row in part) for part in (taught, own)]
    assert weights[0] / sum(weights) == pytest.approx(0.25)
    assert replay_rows([], other, own, share=0.25) == []


def ruled(number: int, rules: int, broken: str | None, weight: float = 1.0) -> tuple[Example, Policy]:
    categories = tuple(Category(f"R{n + 1}", f"Rule {n}", f"Nobody may do thing {n}.") for n in range(rules))
    codes = () if broken is None else (broken,)
    return example(number, f"I did thing {number}.", *codes, weight=weight), Policy("rules", "1", "Rules", categories)


def test_rows_of_rules_make_up_their_share_and_most_are_shown_one_rule() -> None:
    own = [TrainingRow(one, RULES) for one in ROWS]
    pairs = [ruled(n, 1 + n % 3, ["R1", None][n % 2], 0.3) for n in range(400)]
    found = rule_rows([*pairs, ruled(999, 1, "R1", 0.0)], own, 0.4, 7)
    weights = [sum(row.example.weight for row in part) for part in (found, own)]
    assert weights[0] / sum(weights) == pytest.approx(0.4)
    assert len(found) == 400
    assert {row.least for row in found} == {"short"}
    several = [row for row in found if len(row.policy.categories) > 1]
    assert 0.04 < len(several) / (400 * 2 / 3) < 0.2
    assert rule_rows(pairs, own, 0.0, 7) == []


def test_a_rule_shown_alone_is_the_one_that_is_broken_and_the_label_stays() -> None:
    pairs = [ruled(n, 3, ["R2", None][n % 2]) for n in range(60)]
    own = [TrainingRow(one, RULES) for one in ROWS]
    for row, (example, rules) in zip(rule_rows(pairs, own, 0.4, 7), pairs, strict=True):
        assert row.example.label == example.label
        if len(row.policy.categories) == 1:
            (shown,) = row.policy.categories
            assert shown.definition in {category.definition for category in rules.categories}
            if example.label == "unsafe":
                assert shown.definition == "Nobody may do thing 1."
                assert row.example.categories == {"R1"} == set(row.policy.codes)
        else:
            assert row.policy == rules
