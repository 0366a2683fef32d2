"""Metrics: against scikit-learn, by hand, and where there is nothing to measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.metrics import classification, intervals
from tests.fixtures.lazy import lazy

reference = lazy("sklearn.metrics")

# A coarse grid makes ties common; they are where implementations differ.
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda n: n / 8)), min_size=2, max_size=40)
BOTH = ROWS.filter(lambda rows: len({label for label, _ in rows}) == 2)


def arrays(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels), np.array(scores)


@pytest.mark.slow  # importing it takes longer than all other tests of this file
@given(BOTH, st.integers(0, 9).map(lambda n: n / 8))
def test_metrics_agree_with_scikit_learn(rows, threshold):
    labels, scores = arrays(rows)
    at = classification.confusion(labels, scores, threshold)
    flagged = scores >= threshold
    tn, fp, fn, tp = reference.confusion_matrix(labels, flagged).ravel()
    assert (at.tp, at.fp, at.tn, at.fn) == (tp, fp, tn, fn)
    assert at.recall == pytest.approx(reference.recall_score(labels, flagged))
    assert at.f1 == pytest.approx(reference.f1_score(labels, flagged))
    assert at.fpr == pytest.approx(fp / (fp + tn))
    if flagged.any():
        assert at.precision == pytest.approx(reference.precision_score(labels, flagged))
    else:
        assert at.precision is None
    assert classification.auprc(labels, scores) == pytest.approx(reference.average_precision_score(labels, scores))
    assert classification.auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores))


@given(BOTH)
def test_best_f1_is_reached_by_its_threshold_and_by_no_other(rows):
    labels, scores = arrays(rows)
    best = classification.best_f1(labels, scores)
    assert classification.confusion(labels, scores, best.threshold).f1 == best.value
    assert best.value == max(classification.confusion(labels, scores, cut).f1 for cut in set(scores))


@given(BOTH, st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_tpr_at_fpr_keeps_the_rate_and_no_threshold_beats_it(rows, limit):
    labels, scores = arrays(rows)
    point = classification.tpr_at_fpr(labels, scores, limit)
    at = classification.confusion(labels, scores, point.threshold)
    assert at.fpr <= limit
    assert at.recall == point.value
    others = [classification.confusion(labels, scores, cut) for cut in set(scores)]
    assert point.value == max([0.0, *(other.recall for other in others if other.fpr <= limit)])


@given(BOTH, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    for metric in (
        classification.auprc,
        classification.auroc,
        classification.ece,
        lambda labels, scores: classification.best_f1(labels, scores).value,
        lambda labels, scores: classification.tpr_at_fpr(labels, scores, 0.1).threshold,
    ):
        assert metric(*arrays(rows)) == pytest.approx(metric(*arrays(shuffled)), abs=1e-12)


@given(BOTH, st.floats(0.1, 3), st.floats(-2, 2))
def test_ranking_metrics_see_only_the_order_of_scores(rows, slope, bias):
    labels, scores = arrays(rows)
    moved = slope * scores + bias
    assert classification.auroc(labels, moved) == classification.auroc(labels, scores)
    assert classification.auprc(labels, moved) == classification.auprc(labels, scores)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_gives_none_and_not_a_number(label):
    labels, scores = np.full(5, label), np.linspace(0.1, 0.9, 5)
    at = classification.confusion(labels, scores, 0.5)
    assert (at.precision, at.f1) == (None, None)
    assert (at.recall is None, at.fpr is None) == (not label, label)
    assert [m(labels, scores) for m in (classification.best_f1, classification.auprc, classification.auroc)] == [
        None,
        None,
        None,
    ]
    assert classification.tpr_at_fpr(labels, scores, 0.01) is None


def test_no_rows_give_none():
    none = np.array([], dtype=bool), np.array([])
    assert classification.confusion(*none, 0.5) == classification.Confusion(0, 0, 0, 0)
    assert classification.confusion(*none, 0.5).recall is None
    assert [
        m(*none) for m in (classification.auroc, classification.auprc, classification.best_f1, classification.ece)
    ] == [None] * 4


def test_each_row_may_have_its_own_threshold():
    at = classification.confusion(np.array([True, True, False]), np.array([0.6, 0.6, 0.6]), np.array([0.5, 0.7, 0.6]))
    assert at == classification.Confusion(tp=1, fp=1, tn=0, fn=1)


def test_a_threshold_lies_between_two_scores():
    labels, scores = np.array([True, True, False, False]), np.array([0.9, 0.8, 0.4, 0.1])
    assert classification.best_f1(labels, scores).threshold == pytest.approx(0.6)


def test_neighbouring_floats_are_still_told_apart():
    low = 0.5
    labels, scores = np.array([True, False]), np.array([np.nextafter(low, 1), low])
    best = classification.best_f1(labels, scores)
    assert best.value == 1.0
    assert classification.confusion(labels, scores, best.threshold).f1 == 1.0


def test_ece_by_hand():
    # Bin [0.8, 0.867): mean 0.8, all unsafe (gap 0.2); bin [0.067, 0.133): mean 0.1, half unsafe (gap 0.4).
    labels = np.array([True, True, True, False])
    assert classification.ece(labels, np.array([0.8, 0.8, 0.1, 0.1])) == pytest.approx(0.5 * 0.2 + 0.5 * 0.4)
    assert classification.ece(np.array([True, False]), np.array([1.0, 0.0])) == 0.0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        classification.ece(labels, np.array([0.8, 0.8, 0.1, 2.0]))


def f1(labels, scores):
    return classification.confusion(labels, scores, 0.5).f1


def test_intervals_are_seeded_and_hold_the_value():
    random = np.random.default_rng(3)
    labels = random.random(400) < 0.4
    flags = np.clip(labels * 0.4 + random.random(400) * 0.6, 0, 1) >= 0.5
    found = intervals.of_rates(labels, flags, seed=0)
    low, high = found["f1"]
    assert low < f1(labels, flags) < high
    assert found == intervals.of_rates(labels, flags, seed=0)
    assert found != intervals.of_rates(labels, flags, seed=1)


def test_intervals_have_the_width_that_theory_gives():
    labels = np.array([True] * 1000 + [False])
    flags = np.array([True] * 800 + [False] * 201)
    low, high = intervals.of_rates(labels, flags, rounds=2000)["recall"]
    assert high - low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / 1000) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([True, False], [0.1], "equal length"),
        ([[True], [False]], [[0.1], [0.2]], "one-dimensional"),
        ([True, False], [0.1, float("nan")], "1 of 2 scores are NaN"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        classification.auroc(np.array(labels), np.array(scores))


def bootstrap(metric, labels, scores, rounds, seed):
    """The percentile interval in the plain way: one sample after the other."""
    if metric(labels, scores) is None:
        return None
    random = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        chosen = random.integers(0, len(labels), len(labels))
        value = metric(labels[chosen], scores[chosen])
        if value is not None:
            values.append(value)
    if not values:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


@given(ROWS, st.integers(0, 3))
def test_intervals_are_those_of_the_bootstrap_of_each_metric(rows, seed):
    labels, scores = arrays(rows)
    rates = {
        name: lambda y, flags, name=name: getattr(classification.confusion(y, flags, 0.5), name)
        for name in intervals.RATES
    }
    found = intervals.of_rates(labels, scores >= 0.5, rounds=30, seed=seed)
    for name, metric in rates.items():
        flags = (scores >= 0.5).astype(float)
        theirs = bootstrap(metric, labels, flags, rounds=30, seed=seed)
        assert found[name] == (None if theirs is None else pytest.approx(theirs))
    found = intervals.of_rankings(labels, scores, rounds=30, seed=seed)
    for name, metric in (("auprc", classification.auprc), ("auroc", classification.auroc)):
        theirs = bootstrap(metric, labels, scores, rounds=30, seed=seed)
        assert found[name] == (None if theirs is None else pytest.approx(theirs))


def test_no_rows_have_no_intervals():
    none = np.array([], dtype=bool)
    assert intervals.of_rates(none, none) == dict.fromkeys(intervals.RATES)
    assert intervals.of_rankings(none, none.astype(float)) == dict.fromkeys(intervals.RANKINGS)


@pytest.mark.slow  # importing it takes longer than all other tests of this file
@given(BOTH)
def test_curves_agree_with_scikit_learn(rows):
    labels, scores = arrays(rows)
    found = classification.curves(labels, scores)
    fpr, tpr, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert found.fpr == pytest.approx(fpr[1:])
    assert found.recall == pytest.approx(tpr[1:])
    precision, recall, _ = reference.precision_recall_curve(labels, scores)
    assert found.precision == pytest.approx(precision[-2::-1])
    assert found.recall == pytest.approx(recall[-2::-1])
    assert classification.curves(np.array([True]), np.array([0.5])) is None


def test_reliability_by_hand():
    bins = classification.reliability(np.array([True, True, True, False]), np.array([0.8, 0.82, 0.1, 1.0]))
    assert [(part.rows, part.unsafe) for part in bins] == [(1, 1.0), (2, 1.0), (1, 0.0)]
    assert [part.mean for part in bins] == pytest.approx([0.1, 0.81, 1.0])
    assert bins[0].low == pytest.approx(1 / 15)
    assert bins[-1].high == 1.0


def test_ranges_of_lengths_double_and_leave_no_row_out():
    lengths = np.array([0, 1, 31, 32, 63, 64, 5000])
    labels, flagged = np.array([1, 1, 0, 1, 0, 0, 1], dtype=bool), np.array([1, 0, 1, 1, 0, 1, 0], dtype=bool)
    found = classification.by_length(labels, flagged, lengths)
    assert [(part.low, part.high) for part in found] == [(0, 32), (32, 64), (64, 128), (4096, 8192)]
    assert found[0].confusion == classification.Confusion(tp=1, fp=1, tn=0, fn=1)
    assert found[1].confusion == classification.Confusion(tp=1, fp=0, tn=1, fn=0)
    assert found[3].confusion.recall == 0.0
