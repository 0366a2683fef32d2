"""Calibration: known scales are recovered, thresholds hold what they promise, the worst window counts."""

import base64
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guard.calibration import Calibration, TargetCalibration, Thresholds, read, write
from guard.conversation import Conversation, Example
from guard.engines.fake import FakeEngine
from guard.errors import DataError, EngineError
from guard.metrics.classification import confusion
from guard.moderator import Moderator
from guard.policy import load
from guard.prompts.window import Score
from guard.train.common.calibrate import calibrate, choose_thresholds, fit, fit_unseen, scores

MINIMAL = load("minimal")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def drawn(slope, bias, n=20_000, seed=0):
    """Log-odds, and labels drawn with probability sigmoid(slope · z + bias)."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 2, n)
    return z, random.random(n) < sigmoid(slope * z + bias)


@pytest.mark.parametrize(("slope", "bias"), [(1.0, 0.0), (0.3, -1.0), (2.5, 2.0), (0.01, 1.0)])
def test_a_known_scale_is_recovered(slope, bias):
    z, labels = drawn(slope, bias)
    found = fit(z, labels)
    assert found == pytest.approx((slope, bias), abs=0.1)


@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-100, 100))
def test_a_change_of_units_changes_the_scale_and_not_the_probabilities(seed, unit, shift):
    z, labels = drawn(1.5, -0.5, 300, seed)
    slope, bias = fit(z, labels)
    other = fit(z * unit + shift, labels)
    assert sigmoid(other[0] * (z * unit + shift) + other[1]) == pytest.approx(sigmoid(slope * z + bias), abs=1e-6)


@given(st.integers(0, 1000))
def test_the_fit_is_the_optimum_for_smoothed_targets(seed):
    z, labels = drawn(1.0, 0.5, 200, seed)
    slope, bias = fit(z, labels)
    unsafe, safe = labels.sum(), (~labels).sum()
    targets = np.where(labels, (unsafe + 1) / (unsafe + 2), 1 / (safe + 2))
    rest = sigmoid(slope * z + bias) - targets
    assert abs(rest.sum()) < 1e-4
    assert abs((rest * z).sum()) < 1e-4


def test_classes_that_separate_get_a_finite_scale():
    slope, bias = fit(np.repeat([-1.0, 1.0], 50), np.repeat([False, True], 50))
    assert sigmoid(slope + bias) == pytest.approx(51 / 52, abs=1e-6)
    assert sigmoid(-slope + bias) == pytest.approx(1 / 52, abs=1e-6)


def test_a_row_of_weight_two_counts_as_two_rows():
    z, labels = drawn(1.0, 0.0, 200)
    weights = np.where(np.arange(200) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(200), weights.astype(int))
    assert fit(z, labels, weights) == pytest.approx(fit(z[twice], labels[twice]), abs=1e-6)
    assert fit(z, labels, weights) != pytest.approx(fit(z, labels), abs=1e-6)


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (np.linspace(-1, 1, 59), np.arange(59) >= 40, "19 unsafe and 40 safe rows are too few"),
        (np.linspace(-1, 1, 80), np.arange(80) < 40, "do not increase with unsafe"),
        (np.full(80, 0.1), np.arange(80) < 40, "same log-odds"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(z, labels, message):
    with pytest.raises(DataError, match=message):
        fit(z, labels)


ROWS = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60)


@given(ROWS)
def test_thresholds_hold_on_the_rows_that_chose_them(rows):
    labels, p = np.array([label for label, _ in rows]), np.array([score for _, score in rows])
    assume(labels.any() and not labels.all())
    chosen = choose_thresholds(p, labels)
    assert confusion(labels, p, chosen.permissive).fpr <= 0.01
    assert chosen.strict <= chosen.balanced <= chosen.permissive
    allowed = max(0.05, 2 * confusion(labels, p, chosen.balanced).fpr)
    assert chosen.strict == chosen.balanced or confusion(labels, p, chosen.strict).fpr <= allowed
    best = max(confusion(labels, p, cut).f1 for cut in p)
    assert confusion(labels, p, chosen.balanced).f1 >= best - 0.003 - 1e-12
    higher = [cut for cut in p if (p >= cut).sum() < (p >= chosen.balanced).sum()]
    assert all(confusion(labels, p, cut).f1 < best - 0.003 + 1e-12 for cut in higher)
    assert all(confusion(labels, p, cut).fpr <= float(fpr) for fpr, cut in chosen.at_fpr.items())


def test_strict_flags_more_than_balanced_where_the_best_f1_flags_many_safe_rows():
    rng = np.random.default_rng(3)
    labels = np.arange(4000) % 2 == 0
    p = 1 / (1 + np.exp(-rng.normal(np.where(labels, 1.0, -1.0), 1.3)))
    chosen = choose_thresholds(p, labels)
    balanced, strict = (confusion(labels, p, cut) for cut in (chosen.balanced, chosen.strict))
    assert balanced.fpr > 0.1
    assert 1.9 * balanced.fpr < strict.fpr <= 2 * balanced.fpr
    assert strict.recall > balanced.recall


def test_thresholds_need_both_classes():
    with pytest.raises(DataError, match="one class"):
        choose_thresholds(np.array([0.1, 0.9]), np.array([True, True]))


def example(text, label="safe", categories=None, response=None, kind=None):
    return Example(
        id=str(hash((text, response))),
        conversation=Conversation.of(text, response),
        label=label,
        categories=categories,
        source="made up",
        licence="CC0-1.0",
        language="en",
        kind=kind or ("prompt" if response is None else "response"),
        split="dev",
    )


def dev():
    """Prompts in which the fake engine is right but for ten false alarms, and too few responses."""
    m1, m2 = frozenset({"M1"}), frozenset({"M2"})
    return [
        *(example(f"a nice walk, {n}") for n in range(60)),
        *(example(f"quoted violates:M1 {n}") for n in range(10)),
        *(example(f"violates:M1 {n}", "unsafe", m1) for n in range(30)),
        *(example(f"violates:M2 {n}", "unsafe", m2) for n in range(14)),
        *(example(f"violates:M1 unknown {n}", "unsafe") for n in range(6)),
        *(example("hi", response=f"hello {n}") for n in range(5)),
        *(example(f"a rude comment {n}", "unsafe", kind="text") for n in range(40)),
    ]


def test_calibrate_on_dev_examples():
    calibration, report = calibrate(FakeEngine(), dev(), MINIMAL)
    prompt = calibration.prompt
    assert report["kinds"] == ["prompt", "response"]
    assert report["left_out"] == 40
    told = report["prompt"]
    assert (told["rows"], told["unsafe"]) == (120, 50)
    assert (told["slope"], told["bias"]) == (prompt.slope, prompt.bias)
    # All flagged texts have log-odds 4; 50 of those 60 are unsafe, and so the calibrated probability says.
    assert prompt.probability(4.0) == pytest.approx(50 / 60, abs=0.03)
    assert prompt.probability(4.0) > prompt.thresholds.balanced > prompt.probability(-4.0)
    # Ten of seventy safe texts are flagged with the unsafe ones: no threshold below them keeps 1 %, and the one that
    # keeps 5 % would flag less than the best F1 does, which strict must not.
    assert prompt.thresholds.permissive > prompt.probability(4.0)
    assert prompt.thresholds.strict == prompt.thresholds.balanced
    assert told["nll"]["after"] < told["nll"]["before"]
    assert told["ece"]["after"] < told["ece"]["before"]
    assert "note" not in told


def test_only_categories_with_enough_known_rows_get_thresholds():
    calibration, report = calibrate(FakeEngine(), dev(), MINIMAL)
    assert set(calibration.prompt.categories) == {"M1"}  # M2 has 14 rows; 15 are needed
    # Six unsafe rows of unknown category take no part: 114 of 120.
    assert report["prompt"]["categories"] == {"M1": {"rows": 114, "unsafe": 30}, "M2": {"rows": 114, "unsafe": 14}}


def test_a_target_with_too_few_rows_takes_those_of_the_other_as_well_and_says_so():
    calibration, report = calibrate(FakeEngine(), dev(), MINIMAL)
    told = report["response"]
    assert (told["rows"], told["unsafe"]) == (125, 50)
    assert told["note"].startswith("0 unsafe and 5 safe rows of its own are too few")
    assert calibration.response != TargetCalibration()
    # Five safe rows more: what is flagged is unsafe as often, what is not a little less often.
    assert calibration.response.probability(4.0) == pytest.approx(calibration.prompt.probability(4.0), abs=0.01)
    assert calibration.response.probability(-4.0) < calibration.prompt.probability(-4.0)


def test_two_targets_with_half_the_rows_each_are_enough_together():
    rows = [
        example(f"{'violates:M1' if unsafe else 'a walk'} {n}", "unsafe" if unsafe else "safe", None, response)
        for n in range(15)
        for unsafe in (True, False)
        for response in (None, f"{'violates:M1' if unsafe else 'hello'} {n}")
    ]
    calibration, report = calibrate(FakeEngine(), rows, MINIMAL)
    assert calibration.prompt == calibration.response != TargetCalibration()
    assert report["prompt"]["rows"] == report["response"]["rows"] == 60


def test_too_few_rows_of_all_keep_the_identity_and_say_so():
    rows = [example(f"a walk {n}") for n in range(30)] + [example(f"violates:M1 {n}", "unsafe") for n in range(9)]
    calibration, report = calibrate(FakeEngine(), rows, MINIMAL)
    assert calibration == Calibration()
    note = "not calibrated: 9 unsafe and 30 safe rows are too few to fit; need 20 of each"
    assert report["prompt"] == report["response"] == {"rows": 39, "unsafe": 9, "note": note}


def test_no_examples_at_all():
    calibration, report = calibrate(FakeEngine(), [], MINIMAL)
    assert calibration == Calibration()
    assert "note" in report["prompt"]
    assert "note" in report["response"]


class Timid(FakeEngine):
    """One that is five log-odds too low about whatever it is asked."""

    def _score(self, window):
        score = super()._score(window)
        return Score(score.unsafe - 5, tuple(z - 5 for z in score.categories))


def rules(unsafe=30):
    """Texts under a rule, which timid log-odds of -1 tell apart from safe ones at -9 and below."""
    broken = [(example(f"violates:M1 {n}", "unsafe", frozenset({"M1"})), MINIMAL) for n in range(unsafe)]
    return broken + [(example(f"a nice talk, {n}"), MINIMAL) for n in range(60)]


def test_timidity_about_unseen_rules_is_made_up_for():
    fitted, report = fit_unseen(Timid(), rules(), Calibration())
    assert report["unseen_rules"]["f1"] == 1.0
    # To log-odds 0, the threshold, from half-way between those of the broken and of the likeliest kept rule.
    assert 5 < fitted.unseen < 9
    assert fitted.unseen == report["unseen_rules"]["shift"]
    assert (fitted.prompt, fitted.response) == (Calibration().prompt, Calibration().response)


def test_a_bold_guard_stays_as_it_is_about_unseen_rules():
    easy = Calibration(TargetCalibration(bias=9.0))  # its threshold lies at log-odds of -9
    assert fit_unseen(FakeEngine(), rules(), easy)[0] == easy


def test_too_few_rows_of_rules_change_nothing():
    fitted, report = fit_unseen(Timid(), rules(unsafe=5), Calibration())
    assert fitted == Calibration()
    assert report["unseen_rules"]["rows"] == 65
    assert report["unseen_rules"]["unsafe"] < 20


def test_other_kinds_can_be_asked_for():
    _, report = calibrate(FakeEngine(), dev(), MINIMAL, kinds=("prompt", "response", "text"))
    assert report["left_out"] == 0
    assert report["prompt"]["rows"] == 160


def test_the_calibration_and_its_report_can_be_written(tmp_path):
    calibration, report = calibrate(FakeEngine(), dev(), MINIMAL)
    write(calibration, tmp_path / "calibration.json")
    assert read(tmp_path / "calibration.json") == calibration
    assert json.loads(json.dumps(report)) == report


def test_scores_are_those_of_the_moderator_views_included():
    disguised = ["v\u200biolates:M1", base64.b64encode(b"here it violates:M2 at last").decode()]
    texts = [
        *disguised,
        "short",
        "long and calm. " * 60,
        "calm at first. " * 60 + "then violates:M2 here",
        "violates:M1 " + "x" * 900,
    ]
    examples = [example(text) for text in texts] + [example("hi", response=text) for text in texts]
    scale = TargetCalibration(0.7, 0.4, Thresholds(0.5, 0.5, 0.5))
    moderator = Moderator(FakeEngine(), MINIMAL, Calibration(scale, scale))
    verdicts = moderator.moderate([example.conversation for example in examples])
    unsafe, categories = scores(FakeEngine(), examples, MINIMAL)
    assert max(verdict.coverage.windows for verdict in verdicts) > 1
    assert all(z > 0 for z in unsafe[: len(disguised)])
    assert [scale.probability(z) for z in unsafe] == [verdict.p_unsafe for verdict in verdicts]
    for row, verdict in zip(categories, verdicts, strict=True):
        assert [scale.probability(z) for z in row] == list(verdict.categories.values())


def test_more_examples_than_a_chunk_keep_their_order():
    examples = [example(f"text {n}" + (" violates:M1 " if n % 7 == 0 else "")) for n in range(1100)]
    unsafe, _ = scores(FakeEngine(), examples, MINIMAL)
    assert [n for n in range(1100) if unsafe[n] > 0] == list(range(0, 1100, 7))


class Broken(FakeEngine):
    """An engine whose model overflows."""

    def score(self, windows):
        return [Score(float("nan"), (0.0, 0.0)) for _ in windows]


def test_a_model_that_gives_no_numbers_is_not_calibrated():
    with pytest.raises(EngineError, match="without a finite number"):
        calibrate(Broken(), [example(text) for text in "abc"], MINIMAL)
