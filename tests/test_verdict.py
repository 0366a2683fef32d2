"""Verdicts: the decision, the order of codes, and their JSON."""

import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guard.conversation import Target
from guard.policy import load
from guard.verdict import Coverage, Outcome, Timings, Verdict, decide, log_odds, sigmoid, to_json

RULES = load("mlcommons")


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
        unjudged=("messages[0].content[1]: image_url",),
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
        "unjudged": ["messages[0].content[1]: image_url"],
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
