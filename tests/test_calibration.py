"""Calibration: which threshold holds where, and the file that carries it."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.calibration import MODES, Calibration, TargetCalibration, Thresholds, read, thresholds, write
from guard.conversation import Target
from guard.errors import BundleError, ConfigError
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


@given(st.floats(-50, 50), st.floats(0.01, 10), st.floats(-5, 5))
def test_probability_is_the_scaled_sigmoid(z, slope, bias):
    found = TargetCalibration(slope, bias).probability(z)
    assert found == pytest.approx(1 / (1 + math.exp(-(slope * z + bias))))


CHANCES = st.floats(0, 1)
PARTS = st.builds(Thresholds, CHANCES, CHANCES, CHANCES)
SCALES = st.builds(
    TargetCalibration,
    st.floats(0, 1e6, exclude_min=True),
    st.floats(-1e6, 1e6),
    PARTS,
    st.dictionaries(st.sampled_from(["S1", "S10", "hate/threatening"]), PARTS),
)


@settings(max_examples=30)
@given(st.builds(Calibration, SCALES, SCALES))
def test_what_is_written_is_read_back(tmp_path_factory, calibration):
    path = tmp_path_factory.getbasetemp() / "calibration.json"
    write(calibration, path)
    assert read(path) == calibration


def test_an_integer_is_a_number(tmp_path):
    (tmp_path / "c.json").write_text('{"prompt": {"slope": 2}}')
    assert read(tmp_path / "c.json").prompt.slope == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '{"prompt": null}',
        '{"prompts": {}}',
        '{"prompt": {"slope": "2"}}',
        '{"prompt": {"slope": true, "bias": []}}',  # two mistakes
        '{"prompt": {"slope": NaN}}',
        '{"prompt": {"bias": Infinity}}',
        '{"prompt": {"slope": 0}}',
        '{"prompt": {"slope": -1.0}}',  # would turn safe into unsafe
        '{"prompt": {"thresholds": {"strict": NaN}}}',
        '{"prompt": {"thresholds": {"lenient": 0.5}}}',
        '{"prompt": {"categories": {"S1": 0.5}}}',
        "[" * 100_000,
        b"\xff\xfe{}",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_broken_file_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BundleError) as told:
        read(path)
    assert str(told.value).startswith(f"{path}: not a calibration: ")
    assert str(told.value).endswith("; export the bundle again")
    assert "\n" not in str(told.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        read(tmp_path / "calibration.json")


def test_the_file_is_plain_json(tmp_path):
    write(Calibration(), tmp_path / "c.json")
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["prompt"] == told["response"]
    assert told["prompt"]["slope"] == 1.0
