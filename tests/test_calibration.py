"""Calibration: the scale, and the file that carries it."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.calibration import Calibration, TargetCalibration, Thresholds, read, write
from guard.errors import BundleError


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


@settings(max_examples=25)
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
