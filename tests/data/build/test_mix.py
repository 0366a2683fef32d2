"""Mixing weights and category caps over made-up columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard import schema
from guard.data.build.columns import NO_LABEL, Column, ColumnBuilder, Columns, by_label, cross, encode, lengths
from guard.data.build.mix import Mixing, Reweigh, check_category_caps, reweighing, weights, within_caps
from guard.errors import ConfigError, DataError


def columns(rows, counted=None, base=None) -> Columns:
    """Of rows (unsafe, source, language, kind); unsafe None has no label."""
    labels = np.array([NO_LABEL if row[0] is None else int(row[0]) for row in rows], np.int8)
    names = ("source", "language", "kind")
    return Columns(
        labels,
        labels != NO_LABEL if counted is None else np.array(counted, bool),
        np.ones(len(rows)) if base is None else np.array(base, float),
        {name: encode(row[place] for row in rows) for place, name in enumerate(names, 1)},
    )


ROW = st.tuples(
    st.booleans(), st.sampled_from("abc"), st.sampled_from(["en", "vi"]), st.sampled_from(["prompt", "text"])
)
ROWS = st.lists(ROW, min_size=1, max_size=30)
FEW = settings(max_examples=25, deadline=None)
BY_LANGUAGE = Reweigh(by=("language",), at_most=1e9)


def test_left_out_only_the_scale_changes():
    found = weights(columns([(True, "a", "en", "text")] * 4, base=[1, 1, 2, 4]), Mixing())
    assert found.tolist() == [0.5, 0.5, 1.0, 2.0]


@FEW
@given(
    ROWS,
    st.floats(1, 8),
    st.just(0.0) | st.floats(0.01, 2),
    st.sampled_from([(), (Reweigh(by=("language", "kind")),), (Reweigh(by=("source",), one_sided=0.5), BY_LANGUAGE)]),
    st.integers(0, 2**32 - 1),
)
def test_mean_is_one_and_the_order_of_rows_does_not_matter(rows, temperature, text, reweigh, seed):
    mixing = Mixing(temperature=temperature, kinds={"text": text}, reweigh=reweigh)
    made = columns(rows, base=[1 + place % 3 for place in range(len(rows))])
    order = np.random.default_rng(seed).permutation(len(rows))
    moved = columns([rows[place] for place in order], base=made.base[order])
    if text == 0 and all(row[3] == "text" for row in rows):
        with pytest.raises(DataError, match=f"all {len(rows)} weigh 0"):
            weights(made, mixing)
        return
    found = weights(made, mixing)
    assert found[found > 0].mean() == pytest.approx(1)
    assert (found >= 0).all()
    np.testing.assert_allclose(weights(moved, mixing), found[order])
    tripled = dataclasses.replace(made, base=made.base * 3)
    np.testing.assert_allclose(weights(tripled, mixing), found)


@FEW
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.floats(1, 10))
def test_a_source_weighs_its_size_to_the_power_of_one_over_temperature(sizes, temperature):
    rows = [(True, str(source), "en", "text") for source, size in enumerate(sizes) for _ in range(size)]
    found = weights(columns(rows), Mixing(temperature=temperature))
    totals = np.bincount([int(row[1]) for row in rows], found)
    wanted = np.array(sizes, float) ** (1 / temperature)
    np.testing.assert_allclose(totals / totals.sum(), wanted / wanted.sum())


def test_at_a_high_temperature_all_sources_weigh_alike_times_their_own_weight():
    rows = [(True, "a", "en", "text")] * 90 + [(False, "b", "en", "text")] * 10
    found = weights(columns(rows, base=[1.0] * 90 + [2.0] * 10), Mixing(temperature=1e9))
    assert found[90:].sum() / found[:90].sum() == pytest.approx(2)


def test_temperature_counts_only_rows_that_are_learnt_from():
    rows = [(True, "a", "en", "text")] * 4 + [(True, "b", "en", "text")] * 8 + [(None, "c", "en", "text")] * 2
    counted = [True] * 4 + [True] * 4 + [False] * 4 + [False] * 2
    found = weights(columns(rows, counted), Mixing(temperature=4))
    assert found.tolist() == [1.0] * 14


def test_kinds_are_factors_and_zero_leaves_a_kind_out_of_the_mean():
    rows = [(True, "a", "en", "text")] * 2 + [(True, "a", "en", "prompt")] * 2 + [(True, "a", "en", "response")]
    found = weights(columns(rows), Mixing(kinds={"text": 0.5, "response": 0.0}))
    assert found[0] / found[2] == pytest.approx(0.5)
    assert found[4] == 0
    assert found[:4].mean() == pytest.approx(1)


@FEW
@given(ROWS, st.floats(0, 1))
def test_reweighing_makes_label_and_stratum_independent_where_both_labels_are(rows, one_sided):
    made = columns(rows, base=[1 + place % 3 for place in range(len(rows))])
    reweigh = Reweigh(by=("language", "kind"), at_most=1e9, one_sided=one_sided)
    factors = reweighing(made, made.base, reweigh)
    strata = cross([made.of["language"], made.of["kind"]])
    before, after = by_label(strata, made, made.base), by_label(strata, made, made.base * factors)
    both = (before > 0).all(axis=1)
    np.testing.assert_allclose(after[both].sum(axis=1), before[both].sum(axis=1))  # a stratum weighs what it weighed
    if both.any():
        overall = before[both].sum(axis=0) / before[both].sum()
        np.testing.assert_allclose(after[both] / after[both].sum(axis=1, keepdims=True), [overall] * int(both.sum()))
    np.testing.assert_allclose(after[~both], before[~both] * one_sided)


@FEW
@given(ROWS, st.floats(1, 5))
def test_factors_stay_within_their_bounds(rows, at_most):
    made = columns(rows)
    factors = reweighing(made, made.base, Reweigh(by=("language",), at_most=at_most))
    assert factors.max() <= at_most * (1 + 1e-12)
    assert factors.min() >= 1 / at_most * (1 - 1e-12)


def test_what_the_bounds_cut_stays_confounded():
    rows = [(True, "a", "en", "text")] * 1 + [(False, "a", "en", "text")] * 99
    rows += [(True, "a", "vi", "text")] * 99 + [(False, "a", "vi", "text")] * 1
    factors = reweighing(made := columns(rows), made.base, Reweigh(by=("language",), at_most=1.5))
    assert factors[[0, 1, 100, 199]].tolist() == [1.5, 1 / 1.5, 1 / 1.5, 1.5]


def test_dev_rows_get_the_factor_of_train_rows_like_them():
    train = [(True, "a", "en", "text")] * 3 + [(False, "a", "en", "text")] + [(False, "a", "vi", "text")] * 4
    train += [(True, "a", "vi", "text")] * 4
    dev = [(False, "a", "en", "text"), (True, "a", "fr", "text"), (None, "a", "en", "text")]
    made = columns(train + dev, [True] * len(train) + [False] * len(dev))
    factors = reweighing(made, made.base, BY_LANGUAGE)
    assert factors[len(train)] == factors[3] != 1
    assert factors[-2:].tolist() == [1.0, 1.0]


def test_data_of_one_label_is_left_as_it_is():
    made = columns([(True, "a", "en", "text"), (True, "b", "vi", "text")])
    assert weights(made, Mixing(reweigh=(Reweigh(by=("language",), one_sided=0.5),))).tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="all 2 weigh 0"):
        weights(made, Mixing(reweigh=(Reweigh(by=("language",), one_sided=0.0),)))


def test_without_rows_that_count_there_is_nothing_to_do():
    assert weights(columns([]), Mixing(temperature=2)).tolist() == []
    held = columns([(True, "a", "en", "text")], counted=[False], base=[3.0])
    assert weights(held, Mixing(temperature=2, reweigh=(BY_LANGUAGE,))).tolist() == [3.0]


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="needs the column licence; available: source, language, kind"):
        weights(columns([(True, "a", "en", "text")]), Mixing(reweigh=(Reweigh(by=("licence",)),)))


CODES = ("S1", "S2", "S3")
UNSAFE_ROWS = st.lists(st.sets(st.sampled_from(CODES)), max_size=20)


def capped(rows, caps, ranks):
    pairs = [(row, CODES.index(code)) for row, codes in enumerate(rows) for code in sorted(codes)]
    listed = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return within_caps(listed[:, 0], Column(CODES, listed[:, 1]), np.array(ranks, float), caps)


@FEW
@given(UNSAFE_ROWS, st.dictionaries(st.sampled_from(CODES), st.integers(1, 8)), st.randoms(use_true_random=False))
def test_caps_hold_but_for_rows_that_another_category_has_room_for(rows, caps, random):
    ranks = random.sample(range(len(rows)), len(rows))
    kept = capped(rows, caps, ranks)
    for row, codes in enumerate(rows):
        if not codes or codes - caps.keys():
            assert kept[row]  # of unknown category, or of one without a cap
    for code, cap in caps.items():
        members = [row for row, codes in enumerate(rows) if code in codes]
        chosen = sorted(members, key=lambda row: ranks[row])[:cap]
        assert kept[chosen].all()
        alone = [row for row in members if rows[row] == {code}]
        assert kept[alone].sum() <= cap
    higher = capped(rows, {code: cap + 1 for code, cap in caps.items()}, ranks)
    assert (higher >= kept).all()


def test_a_row_of_two_categories_stays_while_one_has_room():
    rows = [{"S1"}, {"S1"}, {"S1", "S2"}, {"S2"}, set()]
    assert capped(rows, {"S1": 1, "S2": 1}, [0, 1, 2, 3, 4]).tolist() == [True, False, True, False, True]
    assert capped(rows, {"S1": 1}, [3, 2, 1, 0, 4]).tolist() == [False, False, True, True, True]


def test_a_cap_for_an_unknown_category_is_an_error():
    check_category_caps(Mixing(category_caps={"S1": 5}), ["S1", "S2"])
    with pytest.raises(ConfigError, match="category_caps: S9: not in the policy; it has: S1, S2"):
        check_category_caps(Mixing(category_caps={"S1": 5, "S9": 5}), ["S1", "S2"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("temperature: 0.5", "temperature: must be greater than or equal to 1"),
        ("kinds: {prmpt: 1.0}", "kinds.prmpt"),
        ("kinds: {text: -1.0}", "kinds.text"),
        ("category_caps: {S1: 0}", "category_caps.S1"),
        ("reweigh: [{by: [colour]}]", "reweigh.0.by.0"),
        ("reweigh: [{by: []}]", "reweigh.0.by"),
        ("reweigh: [{by: [kind, kind]}]", "names a column twice"),
        ("reweigh: [{at_most: 0.5}]", "reweigh.0.at_most"),
        ("reweigh: [{onesided: 0.5}]", "did you mean `one_sided`"),
    ],
)
def test_mistakes_in_a_configuration_are_named(tmp_path: Path, text, told):
    path = tmp_path / "mixing.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mixing\.yaml:1") as raised:
        schema.load(path, Mixing, ConfigError)
    assert told in str(raised.value)


def test_a_whole_section_is_read(tmp_path: Path):
    path = tmp_path / "mixing.yaml"
    path.write_text(
        "temperature: 2\nkinds: {text: 0.5}\ncategory_caps: {S2: 9}\nreweigh: [{by: [source], one_sided: 0.5}, {}]\n",
        encoding="utf-8",
    )
    assert schema.load(path, Mixing, ConfigError) == Mixing(
        2.0, {"text": 0.5}, {"S2": 9}, (Reweigh(("source",), 4.0, 0.5), Reweigh())
    )


@FEW
@given(st.lists(st.lists(st.sampled_from(["", "b", "a", "é"]), max_size=5), max_size=4))
def test_a_column_read_in_batches_gives_back_its_values(batches):
    growing = ColumnBuilder()
    for batch in batches:
        growing.extend(batch)
    column = growing.column()
    flat = [value for batch in batches for value in batch]
    assert [column.values[code] for code in column.codes] == flat
    assert list(column.values) == sorted(set(flat))


def test_many_values_fit_their_codes():
    names = [f"{number:03}" for number in range(300)]
    column = encode(names)
    assert column.codes.dtype == np.uint16
    assert [column.values[code] for code in column.codes] == names


def test_lengths_double_from_bin_to_bin():
    column = lengths([0, 1, 2, 3, 4, 7, 8, 16383, 16384, 10**9])
    named = [column.values[code] for code in column.codes]
    assert named == ["0-1", "0-1", "2-3", "2-3", "4-7", "4-7", "8-15", "8192-16383", "16384+", "16384+"]


def test_columns_of_other_lengths_or_counted_rows_without_a_label_are_refused():
    with pytest.raises(ValueError, match="column base: 2 rows, but there are 1 labels"):
        columns([(True, "a", "en", "text")], base=[1, 2])
    with pytest.raises(ValueError, match="1 rows without a label are counted"):
        columns([(None, "a", "en", "text")], counted=[True])
