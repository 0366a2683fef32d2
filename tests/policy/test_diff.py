"""Differences between two policies: each is told, and none means the same digest."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.policy import Category, Policy
from guard.policy.diff import Change, as_dict, diff

OLD = Policy(
    "small",
    "1",
    "Small",
    (
        Category("A", "Alpha", "First.", ("one", "two"), ("three",), 0.25),
        Category("B", "Beta", "Second."),
        Category("C", "Gamma", "Third."),
    ),
    "About it.",
)


def test_a_policy_does_not_differ_from_itself() -> None:
    found = diff(OLD, dataclasses.replace(OLD))
    assert found.empty
    assert as_dict(found) == {
        "same": True,
        "digests": {"old": OLD.digest, "new": OLD.digest},
        "fields": {},
        "removed": [],
        "added": [],
        "changed": {},
        "order": None,
    }


def test_every_difference_is_told_field_by_field() -> None:
    new = Policy(
        "small",
        "2",
        "Small",
        (
            Category("C", "Gamma", "Third, and more."),
            Category("A", "Alpha", "First.", ("one", "four"), (), None),
            Category("D", "Delta", "Fourth."),
        ),
        threshold=0.5,
    )
    found = diff(OLD, new)
    assert not found.empty
    assert found.fields == (
        Change("version", "1", "2"),
        Change("description", "About it.", ""),
        Change("threshold", None, 0.5),
    )
    assert found.removed == (OLD.categories[1],)
    assert found.added == (new.categories[2],)
    assert found.changed == {
        "A": (
            Change("includes", ("one", "two"), ("one", "four")),
            Change("excludes", ("three",), ()),
            Change("threshold", 0.25, None),
        ),
        "C": (Change("definition", "Third.", "Third, and more."),),
    }
    assert found.order == Change("order", ("A", "C"), ("C", "A"))
    told = as_dict(found)
    assert told["changed"]["C"] == {"definition": {"old": "Third.", "new": "Third, and more."}}
    assert [category["code"] for category in told["added"]] == ["D"]


def test_a_category_between_the_others_is_no_change_of_order() -> None:
    new = dataclasses.replace(OLD, categories=(Category("Z", "Zeta", "Last."), *OLD.categories))
    found = diff(OLD, new)
    assert (found.order, found.changed, found.removed) == (None, {}, ())
    assert [category.code for category in found.added] == ["Z"]


words = st.sampled_from(["one", "two"])
thresholds = st.sampled_from([None, 0.25, 0.5])
categories = st.builds(
    Category,
    st.sampled_from(["A", "B", "C"]),
    words,
    words,
    st.lists(words, max_size=2).map(tuple),
    st.lists(words, max_size=1).map(tuple),
    thresholds,
)
policies = st.builds(
    Policy,
    st.sampled_from(["p", "q"]),
    words,
    words,
    st.lists(categories, min_size=1, max_size=3, unique_by=lambda category: category.code).map(tuple),
    words | st.just(""),
    thresholds,
)


@settings(deadline=None)
@given(policies, policies, st.sampled_from([None, 0.25]))
def test_no_difference_means_the_same_digest(one: Policy, other: Policy, threshold: float | None) -> None:
    for new in (other, dataclasses.replace(one, threshold=threshold), dataclasses.replace(one, id=other.id)):
        found = diff(one, new)
        assert found.empty == (one.digest == new.digest)
        back = diff(new, one)
        assert (back.removed, back.added) == (found.added, found.removed)
        assert set(back.changed) == set(found.changed)
