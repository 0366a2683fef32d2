"""Scorers: scores are calibrated, clipped and independent of their neighbours; comparisons see both orders."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import ConfigError, EngineError, InvalidInput
from guard.reward.calibrate import on_labels, on_pairs
from guard.reward.fake import FakeReader, fake_scorer
from guard.reward.score import CLIP, RewardCalibration
from guard.reward.scorer import Scorer, ScorerInfo
from guard.verdict import sigmoid

ANSWER = st.text("ab ", max_size=3).map(lambda text: f"{text}!") | st.sampled_from(["good", "bad", "good good", "fine"])
INFO = ScorerInfo("fake", "scalar", "0")


@given(st.lists(ANSWER, min_size=1, max_size=5))
def test_a_score_does_not_depend_on_its_neighbours(answers):
    scorer = fake_scorer()
    together = scorer.score_many([("Why?", answer) for answer in answers])
    assert together == [scorer.score("Why?", answer) for answer in answers]


@given(ANSWER, ANSWER, st.booleans(), st.floats(0, 3))
def test_comparing_the_other_way_round_gives_the_rest(a, b, pairwise, bias):
    scorer = fake_scorer(FakeReader(pairwise, bias))
    there, back = scorer.compare("Why?", a, b), scorer.compare("Why?", b, a)
    assert there.p + back.p == pytest.approx(1)
    assert there.gap == pytest.approx(back.gap)
    assert there.gap == pytest.approx(0, abs=1e-9) or pairwise


def test_the_gap_between_both_orders_is_told():
    game = fake_scorer(FakeReader(True, bias=1.0)).compare("Why?", "fine", "fair")
    assert game.p == pytest.approx(0.5)
    assert game.gap == pytest.approx(sigmoid(1) - sigmoid(-1))


def test_rewards_are_clipped_log_odds():
    scorer = Scorer(INFO, FakeReader(), RewardCalibration(slope=2.0, bias=1.0))
    assert scorer.score("Why?", "good").reward == 3.0
    assert scorer.score("Why?", "good").p == pytest.approx(sigmoid(3))
    assert scorer.score("Why?", "good " * 99).reward == CLIP
    assert scorer.compare("Why?", "good", "bad").p == pytest.approx(sigmoid(4))


def test_a_pairwise_system_scores_against_a_reference_or_in_a_tournament():
    scorer = fake_scorer(FakeReader(True, bias=0.5))
    with pytest.raises(ConfigError, match="give `reference`"):
        scorer.score("Why?", "good")
    assert scorer.score("Why?", "good", "fine").p > 0.5 > scorer.score("Why?", "bad", "fine").p
    won = scorer.tournament("Why?", ["bad", "good", "fine"])
    assert sorted(range(3), key=won.__getitem__) == [0, 2, 1]
    assert sum(won) / 3 == pytest.approx(0.5)
    assert fake_scorer().score("Why?", "good", reference="bad").p == pytest.approx(sigmoid(2))


@pytest.mark.parametrize("pairwise", [False, True])
def test_low_label_mass_is_an_error(pairwise):
    scorer = fake_scorer(FakeReader(pairwise, mass=0.01))
    with pytest.raises(EngineError, match=r"probability of 0.010, must be >= 0.5"):
        scorer.check_mass([((), "fine")], 0.5)
    scorer.check_mass([((), "fine")], 0.005)


def test_a_drift_of_the_anchors_is_noticed():
    answers = ["good", "bad", "fine", "good good"]
    anchors = [((), answer) for answer in answers]
    kept = RewardCalibration(anchors=(1.0, -1.0, 0.0, 2.0))
    assert Scorer(INFO, FakeReader(), kept).drift(anchors) == 0
    moved = RewardCalibration(anchors=(9.0, 7.0, 8.0, 10.0))
    assert Scorer(INFO, FakeReader(), moved).drift(anchors) > 3
    assert Scorer(INFO, FakeReader()).drift(anchors) is None


@pytest.mark.parametrize("answer", ["", " \n", None])
def test_empty_answers_are_refused(answer):
    with pytest.raises(InvalidInput, match="visible character"):
        fake_scorer().score("Why?", answer)
    with pytest.raises(InvalidInput, match="at least one message"):
        fake_scorer().score([], "fine")


@given(st.lists(st.floats(-20, 20), max_size=30), st.lists(st.floats(-20, 20), max_size=8))
def test_calibration_on_pairs_is_finite_and_keeps_the_order(differences, anchors):
    fitted = on_pairs(differences, anchors)
    assert 0 < fitted.slope < math.inf
    assert fitted.rows == len(differences)
    for low, high in itertools.pairwise(sorted({*differences, 0.0})):
        assert fitted.preference(low) <= fitted.preference(high)
    assert fitted.preference(0) == 0.5


def test_calibration_finds_the_temperature():
    # Of pairs that differ by 1 three in four are right, so p must be near three quarters.
    fitted = on_pairs([1.0] * 750 + [-1.0] * 250, [3.0, 5.0])
    assert fitted.preference(1.0) == pytest.approx(0.75, abs=0.01)
    assert fitted.log_odds(4.0) == pytest.approx(0)
    assert fitted.ece < 0.02


def test_calibration_on_labels_shifts_and_scales():
    scores = [5.0] * 80 + [5.0] * 20 + [3.0] * 20 + [3.0] * 80
    labels = [True] * 80 + [False] * 20 + [True] * 20 + [False] * 80
    fitted = on_labels(scores, labels, [])
    assert sigmoid(fitted.log_odds(5.0)) == pytest.approx(0.8, abs=0.02)
    assert sigmoid(fitted.log_odds(3.0)) == pytest.approx(0.2, abs=0.02)
    assert on_labels([1.0, 2.0], [True, True], []).slope == 1.0  # one label alone says nothing
