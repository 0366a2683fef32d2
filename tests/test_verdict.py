"""Verdicts: the grammar of generated ones, the decision, and their JSON."""

import json
import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from guard.conversation import Target
from guard.errors import PolicyError, VerdictError
from guard.policy import Category, Policy, load
from guard.verdict import Coverage, Outcome, Timings, Verdict, decide, log_odds, parse, sigmoid, to_json, write

RULES = load("mlcommons")
CANARY = "kumquat-4711"
CODES = st.from_regex(r"[A-Za-z]{1,2}[0-9]{0,3}(/[a-z]{1,3})?", fullmatch=True)


@st.composite
def policies_and_subsets(draw):
    codes = draw(st.lists(CODES, min_size=1, max_size=12, unique_by=str.lower))
    rules = Policy("made-up", "1", "Made up", tuple(Category(code, "name", "definition") for code in codes))
    return rules, draw(st.sets(st.sampled_from(codes)))


@given(policies_and_subsets())
def test_what_is_written_is_read_back(drawn):
    rules, codes = drawn
    unsafe, found = parse(write(codes, rules), rules)
    assert unsafe
    assert set(found) == codes
    assert len(found) == len(codes)
    assert parse(f"\n {write(codes, rules)} \n", rules) == (unsafe, found), "only the space around it is forgiven"


def test_the_three_forms():
    assert write((), RULES, safe=True) == "safe"
    assert write((), RULES) == "unsafe"
    assert write({"S10", "S2", "S1"}, RULES) == "unsafe\nS1,S2,S10"
    assert parse("safe", RULES) == (False, ())
    assert parse("unsafe", RULES) == (True, ())
    assert parse("unsafe\nS1,S2,S10", RULES) == (True, ("S1", "S2", "S10"))


def test_a_safe_verdict_names_no_category():
    with pytest.raises(VerdictError, match="names no category"):
        write(["S1"], RULES, safe=True)


def test_an_unknown_code_is_not_written():
    with pytest.raises(PolicyError, match="has no category S99"):
        write(["S99"], RULES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Safe",
        "SAFE",
        "UNSAFE",
        "safe.",
        "safe\nS1",
        "safe\nunsafe",
        "safe safe",
        f"safe\n{CANARY}",
        f"{CANARY}\nsafe",
        f"unsafe {CANARY}",
        "unsafe: S1",
        "unsafe S1",
        "unsafe\n\nS1",
        "unsafe\nS1\nS2",
        f"unsafe\nS1\n{CANARY}",
        "unsafe\r\nS1",
        "unsafe\rS1",
        "unsafe \nS1",
        "unsafe\n S1",
        "unsafe\nS1, S2",
        "unsafe\nS1 ,S2",
        "unsafe\nS1,",
        "unsafe\n,S1",
        "unsafe\nS1,,S2",
        "unsafe\nS1;S2",
        "unsafe\ns1",
        "unsafe\nS01",
        "unsafe\nS99",
        "unsafe\nS1,S99",
        f"unsafe\nS1,{CANARY}",
        "unsafe\nS1,S1",
        "unsafe\nS2,S1",
        "unsafe\nS10,S2",
        "unsafe\nnone",
    ],
)
def test_anything_else_is_refused_without_being_shown(text):
    with pytest.raises(VerdictError) as told:
        parse(text, RULES)
    assert CANARY not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_code_that_is_named_twice_is_told_as_such():
    with pytest.raises(VerdictError, match="names a category twice: S1, S1"):
        parse("unsafe\nS1,S1", RULES)


def test_trailing_line_ends_are_space_around_it():
    assert parse("unsafe\nS1,S2\r\n", RULES) == (True, ("S1", "S2"))
    assert parse("safe\r\n", RULES) == (False, ())


@given(st.text(max_size=30) | st.text("safeun\n,S129 ", max_size=14))
@example("unsafe\nS1,S2")
def test_whatever_is_read_is_what_would_be_written(text):
    try:
        unsafe, codes = parse(text, RULES)
    except VerdictError:
        return
    assert write(codes, RULES, safe=not unsafe) == text.strip()


@pytest.mark.parametrize(
    ("p", "each", "complete", "outcome", "flagged"),
    [
        (0.49, {"S1": 0.49}, True, Outcome.SAFE, ()),
        (0.49, {"S1": 0.49}, False, Outcome.INCOMPLETE, ()),
        (0.49, {"S1": 0.9}, True, Outcome.SAFE, ()),  # the verdict's own threshold decides
        (0.5, {"S1": 0.5}, True, Outcome.UNSAFE, ("S1",)),  # at the threshold
        (0.9, {"S1": 0.9}, False, Outcome.UNSAFE, ("S1",)),  # unsafe stays unsafe where something was not read
        (0.9, {"S1": 0.1, "S2": 0.2}, True, Outcome.UNSAFE, ("S2",)),  # none reaches its own: the top one
        (0.9, {"S1": 0.2, "S2": 0.2}, True, Outcome.UNSAFE, ("S1",)),  # a tie: the first
        (0.9, {"S10": 0.9, "S2": 0.5, "S1": 0.49}, True, Outcome.UNSAFE, ("S2", "S10")),
        (0.9, {"S3": 0.35, "S1": 0.1}, True, Outcome.UNSAFE, ("S3",)),  # S3 has a lower threshold than S1 would need
    ],
)
def test_decide(p, each, complete, outcome, flagged):
    thresholds = dict.fromkeys(each, 0.5) | ({"S3": 0.3} if "S3" in each else {})
    assert decide(p, 0.5, each, thresholds, complete) == (outcome, flagged)


PROBABILITIES = st.floats(0, 1)


@given(PROBABILITIES, PROBABILITIES, st.dictionaries(st.sampled_from(RULES.codes), PROBABILITIES, min_size=1))
def test_flagged_means_unsafe_and_unsafe_means_flagged(p, threshold, each):
    outcome, flagged = decide(p, threshold, each, dict.fromkeys(each, threshold), True)
    assert (outcome is Outcome.UNSAFE) == (p >= threshold) == bool(flagged)
    assert set(flagged) <= set(each)
    assert [int(code[1:]) for code in flagged] == sorted(int(code[1:]) for code in flagged)


def test_a_number_that_is_none_is_never_safe():
    assert decide(math.nan, 0.5, {"S1": 0.1}, {"S1": 0.5}, True)[0] is Outcome.UNSAFE


def test_json_has_the_fields_of_the_contract():
    verdict = Verdict(
        outcome=Outcome.UNSAFE,
        target=Target.RESPONSE,
        p_unsafe=0.87654321,
        threshold=0.5,
        categories={"S2": 0.1, "S1": 0.87654321},
        flagged=("S1",),
        p_refusal=None,
        coverage=Coverage(tokens_seen=7, tokens_total=9, windows=2, worst_start=3, worst_end=8),
        policy="p" * 64,
        model="m" * 64,
        timings=Timings(1.0, 2.0, 3.0),
    )
    told = to_json(verdict)
    assert json.loads(json.dumps(told)) == {
        "outcome": "UNSAFE",
        "p_unsafe": 0.876543,
        "categories": {"S2": 0.1, "S1": 0.876543},
        "flagged": ["S1"],
        "p_refusal": None,
        "target": "response",
        "threshold": 0.5,
        "coverage": {"tokens_seen": 7, "tokens_total": 9, "windows": 2, "worst": [3, 8]},
        "policy": "p" * 64,
        "model": "m" * 64,
    }
    assert list(told["categories"]) == ["S2", "S1"], "in the policy's order"


@pytest.mark.parametrize(
    ("seen", "total", "complete"), [(5, 5, True), (4, 5, False), (0, 5, False), (0, 0, False), (6, 5, False)]
)
def test_coverage_is_complete_only_if_something_was_read_and_all_of_it(seen, total, complete):
    assert Coverage(seen, total, 1, 0, 0).complete is complete


@given(st.floats(allow_nan=False))
def test_sigmoid_is_a_probability_for_every_number(z):
    assert 0 <= sigmoid(z) <= 1
    assert sigmoid(z) + sigmoid(-z) == pytest.approx(1)


@given(st.floats(-15, 15), st.floats(-15, 15))
def test_sigmoid_keeps_the_order(one, other):
    assume(one < other)
    assert sigmoid(one) <= sigmoid(other)


@given(PROBABILITIES)
def test_log_odds_is_finite_and_undone_by_sigmoid(p):
    assert math.isfinite(log_odds(p))
    assert sigmoid(log_odds(p)) == pytest.approx(p, abs=2e-9)
