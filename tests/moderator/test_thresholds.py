"""Which threshold holds where: the policy's, or the mode's."""

import dataclasses

import pytest

from guard.calibration import MODES, Calibration, TargetCalibration, Thresholds
from guard.conversation import Target
from guard.errors import ConfigError
from guard.moderator import thresholds
from guard.policy import load

RULES = load("minimal")  # M1 and M2
CALIBRATION = Calibration(
    prompt=TargetCalibration(2.0, -1.0, Thresholds(0.3, 0.5, 0.8), {"M1": Thresholds(0.2, 0.4, 0.7)}),
    response=TargetCalibration(1.0, 0.0, Thresholds(0.1, 0.2, 0.9)),
)


@pytest.mark.parametrize(("mode", "overall", "first"), [("strict", 0.3, 0.2), ("balanced", 0.5, 0.4)])
def test_the_mode_chooses(mode, overall, first):
    # M2 was not calibrated: it takes the verdict's threshold.
    assert thresholds(CALIBRATION, RULES, Target.PROMPT, mode) == (overall, {"M1": first, "M2": overall})


def test_every_mode_has_its_own_threshold():
    assert [thresholds(CALIBRATION, RULES, Target.RESPONSE, mode)[0] for mode in MODES] == [0.1, 0.2, 0.9]


def test_a_threshold_of_the_policy_comes_first():
    first, second = RULES.categories
    own = dataclasses.replace(RULES, threshold=0.6, categories=(dataclasses.replace(first, threshold=0.15), second))
    for mode in MODES:
        # M2 has no threshold of its own and no calibration: it takes the verdict's, which is the policy's.
        assert thresholds(CALIBRATION, own, Target.PROMPT, mode) == (0.6, {"M1": 0.15, "M2": 0.6})


def test_a_category_keeps_its_calibration_under_a_threshold_of_the_whole_policy():
    own = dataclasses.replace(RULES, threshold=0.6)
    assert thresholds(CALIBRATION, own, Target.PROMPT, "strict") == (0.6, {"M1": 0.2, "M2": 0.6})


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="unknown mode 'lenient'; allowed: strict, balanced, permissive"):
        thresholds(CALIBRATION, RULES, Target.PROMPT, "lenient")
