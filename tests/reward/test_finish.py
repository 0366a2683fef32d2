"""The end of a run: what is measured, and on which rows."""

from __future__ import annotations

import pytest

from guard.reward.fake import FakeReader, fake_scorer
from guard.reward.row import parse_row
from guard.reward.score import RewardCalibration
from tests.fixtures.lazy import lazy

finish = lazy("guard.reward.finish")

pytestmark = pytest.mark.slow  # it imports torch and what is above it

PAIRS = [parse_row({"prompt": f"{n}?", "chosen": "good " * (n % 3 + 1), "rejected": "bad"}) for n in range(20)]
LABELLED = [parse_row({"prompt": f"{n}?", "response": ("bad", "good")[n % 2], "label": bool(n % 2)}) for n in range(20)]


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("train", [PAIRS, LABELLED])
def test_nothing_is_measured_on_what_was_learnt(pairwise, train):
    measured, calibration, anchors = finish.measure(fake_scorer(FakeReader(pairwise)), [], train)
    assert measured is None
    assert (calibration.slope, calibration.rows, calibration.nll) == (1.0, 0, None)
    if not pairwise:
        assert sum(map(calibration.log_odds, calibration.anchors)) == pytest.approx(0)
        assert len(anchors) == len(calibration.anchors) > 0


def test_held_out_rows_are_measured_and_no_others():
    wrong = [parse_row({"prompt": "Why?", "chosen": "bad", "rejected": "good"})]
    measured, calibration, _ = finish.measure(fake_scorer(), PAIRS, wrong)
    assert (measured["rows"], measured["accuracy"], calibration.rows) == (20, 1.0, 20)
    measured, _, _ = finish.measure(fake_scorer(FakeReader(True)), PAIRS, wrong)
    assert (measured["rows"], measured["accuracy"]) == (20, 1.0)
    measured, calibration, _ = finish.measure(fake_scorer(), LABELLED, wrong)
    assert (measured["rows"], measured["accuracy"], calibration.rows) == (20, 1.0, 20)
    assert finish.measure(fake_scorer(FakeReader(True)), LABELLED, wrong)[:2] == (None, RewardCalibration())
